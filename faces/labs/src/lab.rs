//! The labs by name.

use core::fmt;

use crate::labs::{
    block, boot_tables, fallback, flip, fork, hvo, linear_map, memblock_to_zones, memory_models, pagedoc, preallocate,
    sparsemem, tlb, ttbr, vmalloc, vmalloc_sync, vmalloc_sync_i386, vmemmap_size, walk,
};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, LabError, LabOptions, Verdict};

/// What every lab is inside.
pub(crate) type Run = fn(&LabOptions, &mut Notebook<'_>) -> Result<(), LabError>;

/// An experiment.
#[derive(Clone, Copy)]
pub struct Lab {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub title: Text,
    /// What its condition is, and what the other way round means.
    pub reverse: Text,
    /// The claims that it judges, in order.
    pub claims: &'static [ClaimId],
    pub(crate) run: Run,
}

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lab").field("name", &self.name).field("claims", &self.claims).finish_non_exhaustive()
    }
}

/// All labs, in the order of the documents.
pub const LABS: &[Lab] = &[
    linear_map::LAB,
    tlb::LAB,
    hvo::LAB,
    block::LAB,
    flip::LAB,
    ttbr::LAB,
    walk::LAB,
    boot_tables::LAB,
    memblock_to_zones::LAB,
    fallback::LAB,
    pagedoc::LAB,
    sparsemem::LAB,
    memory_models::LAB,
    vmemmap_size::LAB,
    vmalloc::LAB,
    vmalloc_sync::LAB,
    vmalloc_sync_i386::LAB,
    preallocate::LAB,
    fork::LAB,
];

/// The lab of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Lab> {
    LABS.iter().find(|lab| lab.name == name)
}

/// Runs `lab`, tells it to `out`, and returns a verdict for each claim and each era it was held against.
///
/// # Errors
/// [`LabError`]; what was written to `out` before it stays there.
pub fn run(lab: &Lab, options: &LabOptions, out: &mut dyn fmt::Write) -> Result<Vec<Verdict>, LabError> {
    let mut book = Notebook::new(out, options.language);
    book.title(lab.name, lab.title)?;
    (lab.run)(options, &mut book)?;
    if options.measure && !book.has_measured() {
        return Err(LabError::NothingToMeasure { lab: lab.name });
    }
    Ok(book.finish())
}
