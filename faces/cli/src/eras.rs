//! One source in several eras: each has the kernel that is built in for it, if the source's is such a one. Otherwise the
//! configuration stays, and the image is linked where each era links its own.

use kernmem::BootError;
use kernmem_base::Era;
use kernmem_config::Arch;
use kernmem_view::{BootRecord, KernelView, LayoutView};

use crate::machine::{Booted, Opened};

/// The eras that are shown.
pub const SHOWN: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];

/// How much higher this kernel's era links its image than the given symbols say.
fn distance(kernel: &Booted<'_>, opened: &Opened) -> u64 {
    let text = opened.source.config.symbols.address("_text");
    match (kernel.layout(), text) {
        (LayoutView::Arm64 { layout, .. }, Some(text)) => layout.kimage.0.wrapping_sub(text.0),
        _ => 0,
    }
}

/// Makes the source one of `era`: options keep their meaning under other names; on arm64 the image gets room for that
/// era's early tables, and is linked where that era puts it, which follows from the layout that a boot has.
///
/// # Errors
/// The boot's, and the image stays where it is linked.
pub fn move_to(opened: &mut Opened, era: Era) -> Result<(), BootError> {
    let source = &mut opened.source;
    if source.image_era == era {
        return Ok(());
    }
    (source.image_era, source.builtin) = (era, None);
    let config = &mut source.config;
    config.era = era;
    config.kconfig.name_for_all_eras();
    if config.arch != Arch::Arm64 {
        return Ok(());
    }
    let page = config.kconfig.arm64_granule().bytes();
    let symbols = core::mem::take(&mut config.symbols);
    config.symbols = symbols.with_early_tables(era, page);
    let distance = opened.try_boot(|kernel, _| distance(kernel, opened))?;
    let config = &mut opened.source.config;
    if let Some(text) = config.symbols.address("_text").filter(|_| distance != 0) {
        let symbols = core::mem::take(&mut config.symbols);
        config.symbols = symbols.linked_higher(text, distance);
        config.given.text_virt = config.given.text_virt.map(|virt| virt.wrapping_add(distance));
    }
    Ok(())
}

/// The source in another era: with the kernel that is built in for it, or with its own, moved.
fn other_era(own: &Opened, era: Era) -> Result<Opened, String> {
    let name = own.name.clone();
    if era != own.source.config.era {
        if let Some(source) = own.source.with_builtin_of(era).map_err(|error| error.to_string())? {
            return Ok(Opened { name, source });
        }
    }
    let mut other = Opened { name, source: own.source.clone() };
    move_to(&mut other, era).map_err(why)?;
    Ok(other)
}

fn why(error: BootError) -> String {
    match error {
        BootError::Beyond(what) => what,
        error => format!("its image does not serve there: {error}"),
    }
}

/// Boots `own` in `era` and asks `then`; also the kernel's name, if it is a built-in one.
///
/// # Errors
/// Why this kernel does not boot there, in words.
pub fn boot_in<T>(
    own: &Opened,
    era: Era,
    then: impl FnOnce(&Opened, &Booted<'_>, &BootRecord) -> Result<T, String>,
) -> (Option<&'static str>, Result<T, String>) {
    let other = match other_era(own, era) {
        Ok(other) => other,
        Err(why) => return (None, Err(why)),
    };
    let found = other.try_boot(|kernel, record| then(&other, kernel, record)).map_err(why);
    (other.source.builtin, found.and_then(|found| found))
}
