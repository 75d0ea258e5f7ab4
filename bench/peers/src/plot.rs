//! The plot of a run: for each row how ours stands to the best peer, on a logarithmic axis.
//!
//! A bar begins at 1, which is level with the best peer, and ends at the ratio; a short line across it is the aim.

use core::ops::Range;

use kernmem_bench::report::{figure, is_against_peers, ours};
use kernmem_bench::verdict::Verdict;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const WIDTH: u32 = 860;
const ROW: u32 = 18;
const MARGIN: u32 = 40;
const REACHED: RGBColor = RGBColor(0x2a, 0x7f, 0x62);
const MISSED: RGBColor = RGBColor(0xc2, 0x6a, 0x2e);
const AIM: RGBColor = RGBColor(0x33, 0x33, 0x33);

/// The axis: from where ours is a hundred times ahead to where it is as far behind, or as far as a ratio goes.
fn axis(found: &[&Verdict]) -> Range<f64> {
    let reach = |ends: (f64, f64), ratio: f64| (ends.0.min(ratio), ends.1.max(ratio));
    let (least, most) = found.iter().map(|verdict| verdict.ratio).fold((0.05, 2.0), reach);
    least * 0.8..most * 1.6
}

/// How much better the peer is than ours: below 1 ours is ahead, also where more is better.
fn ratio(verdict: &Verdict, of: f64) -> f64 {
    if verdict.more { 1.0 / of } else { of }
}

/// Draws the verdicts that hold ours against somebody else's.
///
/// # Errors
/// The drawing library's.
pub fn svg(found: &[Verdict]) -> Result<String, Box<dyn core::error::Error>> {
    let shown: Vec<&Verdict> =
        found.iter().filter(|verdict| is_against_peers(verdict) && verdict.ratio.is_finite()).collect();
    let mut text = String::new();
    {
        let height = MARGIN * 2 + ROW * shown.len() as u32;
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area, &shown)?;
        area.present()?;
    }
    Ok(text)
}

fn draw<D: DrawingBackend>(
    area: &DrawingArea<D, plotters::coord::Shift>,
    shown: &[&Verdict],
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
    let mut chart = ChartBuilder::on(area)
        .caption("ours / what stands beside it: left of 1 is faster; a line is the aim", ("sans-serif", 14))
        .margin(6)
        .x_label_area_size(22)
        .y_label_area_size(250)
        .build_cartesian_2d(axis(shown).log_scale(), 0.0..shown.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_label_formatter(&|value| figure(*value))
        .label_style(("sans-serif", 11))
        .draw()?;
    let name = ("sans-serif", 11).into_font().color(&BLACK).pos(Pos::new(HPos::Right, VPos::Center));
    for (verdict, at) in shown.iter().zip(0..) {
        let middle = shown.len() as f64 - f64::from(at) - 0.5;
        let (end, aim) = (ratio(verdict, verdict.ratio), ratio(verdict, verdict.aim.ratio));
        let colour = if verdict.is_met() { REACHED } else { MISSED };
        let bar = [(end.min(1.0), middle - 0.32), (end.max(1.0), middle + 0.32)];
        chart.draw_series(core::iter::once(Rectangle::new(bar, colour.filled())))?;
        let mark = [(aim, middle - 0.45), (aim, middle + 0.45)];
        chart.draw_series(core::iter::once(PathElement::new(mark.to_vec(), AIM.stroke_width(2))))?;
        let (_, y) = chart.backend_coord(&(1.0, middle));
        let label = format!("{}  {}  {}", verdict.row, ours(verdict), figure(verdict.ratio));
        area.draw(&Text::new(label, (248, y), name.clone()))?;
    }
    Ok(())
}
