//! Pools of huge pages on the running kernel.
//!
//! Here: which sizes there are, filling pools as the command line asks, and each operation with the memory map and the
//! kernel's tables. Not here: pools themselves, sharing of descriptors (`kernmem-hugetlb`), gigantic pages of boot
//! (`takers`).
//!
//! Source: Linux 6.1 mm/hugetlb.c `hugetlb_init`, `hugetlb_init_hstates`, `gather_bootmem_prealloc`.

use alloc::vec::Vec;

use kernmem_arch::hugetlb::HugeArch;
use kernmem_arch::{Format, UserFormat, WithFormat};
use kernmem_base::{Granule, Order, Pfn, PhysAddr, PhysMem, Tlb};
use kernmem_config::Config;
use kernmem_hugetlb::{Env, HugePage, Pool, PoolError, Resized, Vmemmap};
use kernmem_page_alloc::{HeapStore, Pages};
use kernmem_pgtable::Tables;

use super::facts::Facts;
use super::memmap::LiveMap;
use super::{On, Running, lists};
use crate::{BootError, BootPages, Witness};

/// The orders of huge pages in the order of their registration.
///
/// Source: Linux 6.1 arch/arm64/mm/hugetlbpage.c `hugetlbpage_init`; arch/x86/mm/hugetlbpage.c `gigantic_pages_init`.
pub(super) fn orders(format: Format, granule: Granule, has_gb: bool) -> Vec<Order> {
    let (arch, has_all) = match format {
        Format::Arm64(_) => (HugeArch::Arm64, true),
        Format::X86Level4 | Format::X86Level5 => (HugeArch::X86_64, has_gb),
        _ => return Vec::new(),
    };
    let sizes = arch.sizes(granule).iter().filter(|size| has_all || **size < 1 << 30);
    sizes.map(|size| Order((size >> granule.shift()).ilog2() as u8)).collect()
}

/// The default size unless the command line names another: what a table of the second-lowest level maps.
const BUILT_IN: Order = Order(9);

/// The order of the default size.
///
/// Source: Linux 6.1 mm/hugetlb.c `default_hugepagesz_setup`.
pub(super) fn default_order(config: &Config, granule: Granule, orders: &[Order]) -> Order {
    let bytes = |order: Order| granule.bytes() << order.0;
    let sizes: Vec<u64> = orders.iter().copied().map(bytes).collect();
    let told = config.cmdline.huge_pages(config.era, &sizes, bytes(BUILT_IN)).value.default_size;
    orders.iter().copied().find(|order| Some(bytes(*order)) == told).unwrap_or(BUILT_IN)
}

pub(super) fn pools(facts: &Facts) -> Vec<Pool<Vec<HugePage>>> {
    let max = Order(facts.vmalloc.max_page_order);
    let pool = |order: &Order| {
        let mut pool = Pool::new(*order, max, Vec::new());
        pool.optimize_new(facts.hvo);
        pool
    };
    facts.huge_orders.iter().map(pool).collect()
}

/// What is asked of a pool.
enum Ask {
    Resize(u64),
    TakeIn { pfn: Pfn, nid: u32, of_boot: bool },
    Put(Pfn),
}

/// What came of it.
enum Done {
    Resized(Resized),
    Other(Result<(), PoolError>),
}

impl<M: PhysMem, W: Witness> Running<'_, M, W> {
    /// Pools as the command line asks, and what boot set aside. A pool that cannot be filled stays smaller.
    pub(super) fn fill_pools(&mut self, on: &mut On<'_>, config: &Config) -> Result<(), BootError> {
        let granule = self.facts.granule;
        let sizes: Vec<u64> = self.facts.huge_orders.iter().map(|order| granule.bytes() << order.0).collect();
        if sizes.is_empty() {
            return Ok(());
        }
        for set_aside in core::mem::take(&mut self.kernel.gigantic) {
            let Some(index) = sizes.iter().position(|size| *size == set_aside.size) else { continue };
            for page in set_aside.pages {
                let nid = self.node_of(page.pfn(granule));
                // Boot made its frames the page allocator's, so they go back as single frames of the pool's.
                let taken = self.take_in(on, index, page.pfn(granule), nid, false);
                taken.map_err(|error| super::facts::failed(&error))?;
            }
        }
        let built_in = granule.bytes() << BUILT_IN.0;
        for wish in config.cmdline.huge_pages(config.era, &sizes, built_in).value.pools {
            let Some(index) = sizes.iter().position(|size| *size == wish.size) else { continue };
            if !self.pools[index].is_gigantic() {
                self.resize_pool(on, index, wish.pages);
            }
        }
        Ok(())
    }

    /// The node of a frame.
    #[must_use]
    pub fn node_of(&self, pfn: Pfn) -> u32 {
        let owner = self.kernel.nodes.memory.iter().find(|(_, span)| span.start <= pfn && pfn < span.end);
        owner.map_or(0, |(nid, _)| *nid)
    }

    /// The pool of pages of `2^order` frames.
    #[must_use]
    pub fn pool_of(&self, order: Order) -> Option<usize> {
        self.pools.iter().position(|pool| pool.order() == order)
    }

    /// Whether pages that enter pools from now on give the memory of their descriptors back
    /// (`vm.hugetlb_optimize_vmemmap`). On kernels where Linux cannot, this is an option of ours.
    pub fn optimize_new(&mut self, optimize: bool) {
        self.pools.iter_mut().for_each(|pool| pool.optimize_new(optimize));
    }

    /// Makes pool `index` `pages` pages large (`nr_hugepages`); `None` if there is no such pool or CPU.
    pub fn resize_pool(&mut self, on: &mut On<'_>, index: usize, pages: u64) -> Option<Resized> {
        match self.ask_pool(on, index, Ask::Resize(pages))? {
            Done::Resized(resized) => Some(resized),
            Done::Other(_) => None,
        }
    }

    /// Puts a page that the caller has into pool `index`.
    ///
    /// # Errors
    /// As [`Pool::take_in`]; the page is still the caller's.
    pub fn take_in(
        &mut self,
        on: &mut On<'_>,
        index: usize,
        pfn: Pfn,
        nid: u32,
        of_boot: bool,
    ) -> Result<(), PoolError> {
        match self.ask_pool(on, index, Ask::TakeIn { pfn, nid, of_boot }) {
            Some(Done::Other(done)) => done,
            _ => Err(PoolError::Empty),
        }
    }

    /// Takes a page from pool `index`, on node `nid` if there is a wish; `promised` uses up one promise.
    ///
    /// # Errors
    /// As [`Pool::take`].
    pub fn take_huge(&mut self, index: usize, nid: Option<u32>, promised: bool) -> Result<Pfn, PoolError> {
        self.pools.get_mut(index).ok_or(PoolError::Empty)?.take(nid, promised)
    }

    /// Gives a page back to pool `index`.
    ///
    /// # Errors
    /// As [`Pool::put`].
    pub fn put_huge(&mut self, on: &mut On<'_>, index: usize, pfn: Pfn) -> Result<(), PoolError> {
        match self.ask_pool(on, index, Ask::Put(pfn)) {
            Some(Done::Other(done)) => done,
            _ => Err(PoolError::NotTaken { pfn }),
        }
    }

    fn ask_pool(&mut self, on: &mut On<'_>, index: usize, ask: Ask) -> Option<Done> {
        let Self { kernel, facts, pools, cpus, map, .. } = self;
        let pool = pools.get_mut(index)?;
        let BootPages { allocator, cpu: boot, .. } = &mut kernel.pages;
        let (cpu, _) = lists(boot, cpus, on.cpu)?;
        let pages = Pages { allocator, cpu };
        let root = kernel.roots.kernel;
        Some(facts.format.with(Op { mem: kernel.mem, root, facts, map, pool, pages, tlb: on.tlb, ask }))
    }
}

struct Op<'a, 'm, M> {
    mem: &'m M,
    root: PhysAddr,
    facts: &'a Facts,
    map: &'a LiveMap<'m, M>,
    pool: &'a mut Pool<Vec<HugePage>>,
    pages: Pages<'a, HeapStore>,
    tlb: &'a mut dyn Tlb,
    ask: Ask,
}

impl<M: PhysMem> WithFormat for Op<'_, '_, M> {
    type Output = Done;

    fn run<F: UserFormat>(self) -> Done {
        let Self { mem, root, facts, map, pool, mut pages, mut tlb, ask } = self;
        let vmemmap = Vmemmap::<F> {
            era: facts.era,
            base: map.place().base,
            descriptor_bytes: facts.descriptor_bytes,
            writable: F::attrs(facts.prot.data),
            read_only: F::attrs(facts.prot.read_only),
            table: F::attrs(facts.prot.table),
        };
        let mut tables = Tables::<F, M>::new(mem, root);
        let mut env =
            Env { tables: &mut tables, pages: &mut pages, tlb: &mut tlb, vmemmap: &vmemmap, descriptors: map };
        match ask {
            Ask::Resize(count) => Done::Resized(pool.resize(&mut env, count)),
            Ask::TakeIn { pfn, nid, of_boot } => Done::Other(pool.take_in(&mut env, pfn, nid, of_boot)),
            Ask::Put(pfn) => Done::Other(pool.put(&mut env, pfn)),
        }
    }
}
