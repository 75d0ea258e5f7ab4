//! Files of `/proc` about memory, of a kernel that runs.
//!
//! Here: which file is made of which value. Not here: the values (`kernmem-view`), how they look (`kernmem-report`).
//!
//! Source: Linux 6.1 mm/vmstat.c, fs/proc/meminfo.c, kernel/resource.c, mm/vmalloc.c, mm/slab_common.c.

use core::fmt;

use kernmem::Witness;
use kernmem_base::PhysMem;
use kernmem_pgtable::WalkError;
use kernmem_report::proc;
use kernmem_slab::SlabError;
use kernmem_view::Answer;
use kernmem_view::proc::OfRunning;

use crate::{Live, LiveError};

/// A file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProcFile {
    /// Free blocks by order.
    Buddyinfo,
    /// Sizes, watermarks and limits of each zone.
    Zoneinfo,
    /// Free blocks and pageblocks by migrate type.
    Pagetypeinfo,
    /// Memory in use, in KiB.
    Meminfo,
    /// Physical addresses by use, without devices.
    Iomem,
    /// Areas of the vmalloc region.
    Vmallocinfo,
    /// Object caches.
    Slabinfo,
}

impl ProcFile {
    /// Every file.
    pub const ALL: [Self; 7] = [
        Self::Buddyinfo,
        Self::Zoneinfo,
        Self::Pagetypeinfo,
        Self::Meminfo,
        Self::Iomem,
        Self::Vmallocinfo,
        Self::Slabinfo,
    ];

    /// Its name in `/proc`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Buddyinfo => "buddyinfo",
            Self::Zoneinfo => "zoneinfo",
            Self::Pagetypeinfo => "pagetypeinfo",
            Self::Meminfo => "meminfo",
            Self::Iomem => "iomem",
            Self::Vmallocinfo => "vmallocinfo",
            Self::Slabinfo => "slabinfo",
        }
    }

    /// The file of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.name() == name)
    }
}

/// Why a file cannot be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProcError {
    /// What it needs was not given.
    Unknown(&'static str),
    /// Tables do not answer.
    Tables(WalkError),
    /// The books about slabs do not answer.
    Slabs(SlabError),
    /// A value cannot be shown.
    Unprintable(ProcFile),
}

impl fmt::Display for ProcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(why) => f.write_str(why),
            Self::Tables(error) => error.fmt(f),
            Self::Slabs(error) => error.fmt(f),
            Self::Unprintable(file) => write!(f, "/proc/{} cannot be shown", file.name()),
        }
    }
}

impl core::error::Error for ProcError {}

impl From<ProcError> for LiveError {
    fn from(error: ProcError) -> Self {
        Self::Proc(error)
    }
}

/// The text of a file, as that kernel prints it at this moment.
///
/// # Errors
/// Something that the file needs does not answer; the kernel is as before.
pub fn proc_text<M: PhysMem, W: Witness>(of: &OfRunning<'_, '_, M, W>, file: ProcFile) -> Result<String, ProcError> {
    let era = of.running.kernel.era;
    let mut out = String::new();
    let printed = match file {
        ProcFile::Buddyinfo => proc::buddyinfo(&of.buddyinfo(), &mut out),
        ProcFile::Zoneinfo => proc::zoneinfo(era, &of.zoneinfo(), &mut out),
        ProcFile::Pagetypeinfo => proc::pagetypeinfo(&of.pagetypeinfo(), &mut out),
        ProcFile::Meminfo => proc::meminfo(&of.meminfo(), &mut out),
        ProcFile::Iomem => match of.settled.iomem() {
            Answer::Known(iomem) => proc::iomem(era, iomem, &mut out),
            Answer::Absent(why) => return Err(ProcError::Unknown(why)),
        },
        ProcFile::Vmallocinfo => proc::vmallocinfo(&of.vmallocinfo().map_err(ProcError::Tables)?, &mut out),
        ProcFile::Slabinfo => proc::slabinfo(&of.slabinfo().map_err(ProcError::Slabs)?, &mut out),
    };
    printed.map_err(|_| ProcError::Unprintable(file))?;
    Ok(out)
}

impl Live<'_> {
    /// The text of a file of `/proc`, as the kernel prints it at this moment.
    ///
    /// # Errors
    /// As [`proc_text`].
    pub fn proc(&self, file: ProcFile) -> Result<String, ProcError> {
        proc_text(&OfRunning { running: &self.running, settled: self.settled() }, file)
    }
}
