//! Addresses followed at once, or through links that are known, end where each by itself does, by the same reads; and
//! what is hinted at is what is read.
#![allow(clippy::unwrap_used, reason = "a test stops where an answer is missing")]

use core::cell::RefCell;

use kernmem_arch::arm64::Arm64;
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_arch::{Entry, EntryFormat};
use kernmem_base::{BusError, PhysAddr, PhysRange, PhysRead, Slot, VirtAddr, VirtRange};
use kernmem_pgtable::heap::HeapMem;
use kernmem_pgtable::{Links, Mapping, Sizes, Tables, Walk, WalkError, translate, translate_many};

/// Memory that notes which entries are read and hinted at.
struct Noting<'m> {
    mem: &'m HeapMem,
    read: RefCell<Vec<(PhysAddr, usize)>>,
    hinted: RefCell<Vec<(PhysAddr, usize)>>,
}

impl PhysRead for Noting<'_> {
    type Lent<'m, S: Slot>
        = &'m [S]
    where
        Self: 'm;

    fn table<S: Slot>(&self, pa: PhysAddr, entries: usize) -> Result<&[S], BusError> {
        self.mem.table(pa, entries)
    }

    fn entry<S: Slot>(&self, pa: PhysAddr, index: usize) -> Result<u64, BusError> {
        let raw = self.mem.entry::<S>(pa, index);
        self.read.borrow_mut().push((pa, index));
        raw
    }

    fn hint<S: Slot>(&self, pa: PhysAddr, index: usize) {
        self.hinted.borrow_mut().push((pa, index));
    }
}

impl<'m> Noting<'m> {
    fn new(mem: &'m HeapMem) -> Self {
        Self { mem, read: RefCell::default(), hinted: RefCell::default() }
    }

    /// The entries that were read, and those that were hinted at, sorted.
    fn taken(self) -> [Vec<(PhysAddr, usize)>; 2] {
        [self.read, self.hinted].map(|noted| {
            let mut noted = noted.into_inner();
            noted.sort_unstable();
            noted
        })
    }
}

/// What a mapping links its tables by unless it is told otherwise.
const LINK: u64 = 0b11;

type Ended<F> = Result<Walk<<F as EntryFormat>::Attrs>, WalkError>;

/// A tree of pages, blocks and holes, with an entry that links a table beyond memory; all others are [`LINK`] besides
/// their address.
fn check<F: EntryFormat>(base: VirtAddr, data: u64, beyond: u64) {
    let shape = F::shape();
    let (last, parents) = (shape.levels[shape.levels.len() - 1], shape.levels[shape.levels.len() - 2]);
    let Entry::Table { attrs, .. } = F::decode(beyond, parents.level) else { panic!("{beyond:#x} links a table") };
    let links = [F::attrs(LINK), attrs].map(|attrs| Links::<F>::new(attrs).unwrap());
    let range = PhysRange::new(PhysAddr(0), PhysAddr(24 << last.shift));
    let mem = HeapMem::with_frames(range, shape.granule);
    let root = mem.take_root();
    let mut tables = Tables::<F, _>::new(&mem, root);
    let mut map = |from: u64, bytes: u64, sizes| {
        let mapping = Mapping::<F>::new(PhysAddr(from), F::attrs(data), sizes);
        let run = VirtRange::of_size(base + from, bytes).unwrap();
        tables.cursor(run).map(&mut mem.frames(), &mapping).unwrap().forgive("nothing was mapped there");
    };
    let (block, page) = (parents.bytes(), last.bytes());
    map(page, 40 * page, Sizes::PAGES);
    map(block, block, Sizes::ALL);
    map(3 * block - 2 * page, 2 * page, Sizes::PAGES);
    map(3 * block, page, Sizes::PAGES);
    let path = kernmem_pgtable::steps::<F, _>(&mem, root, base + 3 * block);
    let parent = path.map(Result::unwrap).nth(shape.levels.len() - 2).unwrap();
    tables.set_entry(parent.table, shape.levels.len() - 2, parent.index, beyond).unwrap();

    // in an order that meets each kind everywhere in a batch
    let all: Vec<VirtAddr> = (0..331).map(|n| base + (n * 7919 % 331) * (4 * block / 331) / 8 * 8).collect();
    let pages = (0..60).map(|n| base + n % 45 * page + 9);
    let all: Vec<VirtAddr> = all.into_iter().chain(pages).collect();
    for count in [0, 1, 63, 64, 65, 128, 129, all.len()] {
        let vas = &all[all.len() - count..];
        let (alone, many) = (Noting::new(&mem), Noting::new(&mem));
        let wanted: Vec<Ended<F>> = vas.iter().map(|va| translate::<F, _>(&alone, root, *va)).collect();
        let mut found: Vec<Option<Ended<F>>> = vec![None; count];
        translate_many::<F, _>(&many, root, vas, |number, walk| {
            assert_eq!(found[number].replace(walk), None, "once each");
        });
        assert_eq!(found.into_iter().map(Option::unwrap).collect::<Vec<_>>(), wanted);
        if count == all.len() {
            let kinds = [
                wanted.iter().any(|walk| matches!(walk, Ok(Walk::Mapped { level, .. }) if *level == last.level)),
                wanted.iter().any(|walk| matches!(walk, Ok(Walk::Mapped { level, .. }) if *level == parents.level)),
                wanted.iter().any(|walk| matches!(walk, Ok(Walk::Hole { level }) if *level == last.level)),
                wanted.iter().any(|walk| matches!(walk, Err(WalkError::Bus(_)))),
            ];
            assert_eq!(kinds, [true; 4], "every kind of end");
        }
        let ([alone, _], [many, hinted]) = (alone.taken(), many.taken());
        assert_eq!(many, alone, "the same reads");
        for links in links {
            let linked = Noting::new(&mem);
            let found: Vec<Ended<F>> = vas.iter().map(|va| links.translate(&linked, root, *va)).collect();
            assert_eq!((found, linked.taken()[0] == alone), (wanted.clone(), true), "{links:?}");
        }
        let is_leaf = |walk: &Ended<F>| match walk {
            Ok(Walk::Mapped { level, .. } | Walk::Hole { level }) => *level == last.level,
            Err(_) => true,
        };
        assert_eq!(hinted.len(), wanted.iter().filter(|walk| is_leaf(walk)).count(), "a hint for each leaf");
        assert!(hinted.iter().all(|leaf| many.binary_search(leaf).is_ok()), "what is hinted at is read");
    }
}

#[test]
fn many_addresses_end_where_each_does_on_x86() {
    check::<X86Level4>(VirtAddr(0xffff_8000_0000_0000), 0x8000_0000_0000_0163, 0x7fff_f063);
    check::<X86Level5>(VirtAddr(0xff00_0000_0000_0000), 0x8000_0000_0000_0163, 0x7fff_f063);
    check::<I386Pae>(VirtAddr(0xc000_0000), 0x8000_0000_0000_0163, 0x7fff_f063);
    check::<I386Level2>(VirtAddr(0xc000_0000), 0x163, 0x7fff_f063);
}

#[test]
fn many_addresses_end_where_each_does_on_arm64() {
    check::<Arm64<12, 48>>(VirtAddr(0xffff_8000_0000_0000), 0x00e8_0000_0000_0703, 0x0800_0000_7fff_f003);
    check::<Arm64<12, 52>>(VirtAddr(0xfff0_0000_0000_0000), 0x00e8_0000_0000_0403, 0x7fff_f103);
    check::<Arm64<14, 36>>(VirtAddr(0xffff_fff0_0000_0000), 0x00e8_0000_0000_0703, 0x1000_0000_7fff_c003);
    check::<Arm64<16, 42>>(VirtAddr(0xffff_fe00_0000_0000), 0x00e8_0000_0000_0703, 0x0800_0000_7fff_0003);
    check::<Arm64<16, 52>>(VirtAddr(0xfff0_0000_0000_0000), 0x00e8_0000_0000_0703, 0x7fff_1003);
}

#[test]
fn links_must_link() {
    assert!(Links::<X86Level4>::new(X86Level4::attrs(0x62)).is_err(), "not present");
    assert!(Links::<X86Level4>::new(X86Level4::attrs(0xe3)).is_err(), "a leaf");
    assert!(Links::<Arm64<12, 48>>::new(<Arm64<12, 48>>::attrs(0b01)).is_err(), "a block");
    assert!(Links::<I386Pae>::new(I386Pae::attrs(0x67)).is_ok(), "a root entry keeps what it may have");
}
