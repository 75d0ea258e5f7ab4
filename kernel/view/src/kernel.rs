//! The running kernel as a view.

use alloc::vec::Vec;

use kernmem::kasan::ZeroShadow;
use kernmem::zones::Nodes;
use kernmem::{Isa, Kernel, Witness};
use kernmem_base::{Era, Granule, PhysAddr, PhysRead, VirtRange};
use kernmem_memblock::Region;

use crate::{Answer, Format, KernelView, LayoutView, RootKind};

impl<M: PhysRead, W: Witness> KernelView for Kernel<'_, M, W> {
    type Mem = M;

    fn mem(&self) -> &M {
        self.mem
    }

    fn era(&self) -> Era {
        self.era
    }

    fn granule(&self) -> Granule {
        self.granule
    }

    fn format(&self) -> Format {
        match &self.isa {
            Isa::Arm64(state) => Format::Arm64(state.geometry),
            Isa::X86(state) => Format::x86(state.layout.paging),
            Isa::I386(state) => state.format,
            _ => unreachable!("every architecture that boots has a format"),
        }
    }

    fn root(&self, kind: RootKind) -> Answer<PhysAddr> {
        if let Isa::Arm64(state) = &self.isa
            && matches!(kind, RootKind::EarlyIdentity | RootKind::Idmap)
            && state.identity.shape().levels.len() != state.geometry.shape().levels.len()
        {
            return Answer::Absent("the identity map has more or fewer levels than the kernel's tables");
        }
        match kind {
            RootKind::Kernel => Answer::Known(self.roots.kernel),
            RootKind::User => {
                self.roots.user.map_or(Answer::Absent("user mode runs with the same tables"), Answer::Known)
            }
            RootKind::EarlyIdentity | RootKind::EarlyKernel => match &self.isa {
                Isa::Arm64(state) if kind == RootKind::EarlyIdentity => Answer::Known(state.early.identity),
                Isa::Arm64(state) => Answer::Known(state.early.kernel),
                _ => Answer::Absent("this architecture keeps no first tables"),
            },
            RootKind::Idmap => self.roots.idmap.map_or(Answer::Absent("no identity map stays"), Answer::Known),
        }
    }

    fn layout(&self) -> LayoutView<'_> {
        match &self.isa {
            Isa::Arm64(state) => LayoutView::Arm64 { layout: &state.layout, memstart: state.memstart },
            Isa::X86(state) => {
                LayoutView::X86 { layout: &state.layout, fixmap: &state.fixmap, markers: &state.markers }
            }
            Isa::I386(state) => {
                LayoutView::I386 { layout: &state.layout, fixmap: &state.fixmap, markers: &state.markers }
            }
            _ => unreachable!("every architecture that boots has a layout"),
        }
    }

    fn image(&self) -> Answer<(VirtRange, PhysAddr)> {
        match &self.isa {
            Isa::Arm64(state) => Answer::Known((state.image, state.image_phys)),
            Isa::X86(state) => Answer::Known((state.image, state.text_phys)),
            Isa::I386(state) => Answer::Known((state.image, state.text_phys)),
            _ => Answer::Absent("this architecture tells no image"),
        }
    }

    fn kfence_pool(&self) -> Answer<VirtRange> {
        let pool = match &self.isa {
            Isa::Arm64(state) => {
                state.kfence_pool.and_then(|pool| VirtRange::of_size(state.linear(pool.start), pool.size()))
            }
            _ => None,
        };
        pool.map_or(Answer::Absent("KFENCE has no pool of its own in the linear map"), Answer::Known)
    }

    fn zero_shadow(&self) -> Answer<ZeroShadow> {
        let shadow = match &self.isa {
            Isa::Arm64(state) => state.zero_shadow,
            Isa::X86(state) => state.zero_shadow.as_deref().copied(),
            _ => None,
        };
        shadow.map_or(Answer::Absent("this kernel has no shadow that is shared"), Answer::Known)
    }

    fn memory_block_bytes(&self) -> Answer<u64> {
        Answer::Known(self.sections.geometry().section_bytes())
    }

    fn direct_map(&self) -> Answer<Vec<(u64, u64)>> {
        let (counters, largest) = match &self.isa {
            Isa::X86(state) => (state.counters, if state.gbpages { 1 << 30 } else { 2 << 20 }),
            Isa::I386(state) => (state.counters, state.layout.paging.large()),
            _ => return Answer::Absent("this architecture does not count the leaves of its linear map"),
        };
        let sizes = self.format().shape().leaves.iter().rev().map(|leaf| leaf.bytes);
        let told = sizes.zip(counters.kib()).filter(|(bytes, _)| *bytes <= largest);
        Answer::Known(told.collect())
    }

    fn nodes(&self) -> Answer<&Nodes> {
        Answer::Known(&self.nodes)
    }

    fn memory(&self) -> Answer<Vec<Region>> {
        Answer::Known(self.memblock.memory().regions().to_vec())
    }

    fn reserved(&self) -> Answer<Vec<Region>> {
        Answer::Known(self.memblock.reserved().regions().to_vec())
    }
}
