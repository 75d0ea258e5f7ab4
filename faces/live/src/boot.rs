//! Boots on the simulated machine, in one place: the code for every format is made here and nowhere above.

use kernmem::{Boot, BootError, Kernel, Witness};
use kernmem_sim::Memory;

/// Boots a kernel in the memory of a simulated machine.
///
/// # Errors
/// As [`kernmem::boot`].
pub fn boot<'m, W: Witness>(
    memory: &'m Memory,
    boot: &Boot<'_>,
    mut witness: W,
) -> Result<Kernel<'m, Memory, W>, BootError> {
    Ok(heard(memory, boot, &mut witness)?.with_witness(|()| witness))
}

fn heard<'m>(
    memory: &'m Memory,
    boot: &Boot<'_>,
    witness: &mut dyn Witness,
) -> Result<Kernel<'m, Memory, ()>, BootError> {
    kernmem::boot_heard(memory, boot, witness)
}
