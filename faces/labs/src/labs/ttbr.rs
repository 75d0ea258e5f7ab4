//! Document 001: which root table an address is looked up in, and whose the roots are.

use kernmem::Isa;
use kernmem_arch::EntryFormat;
use kernmem_arch::arm64::ttbr::{TranslationControl, Ttbr, root_of};
use kernmem_arch::arm64::{Arm64Attrs, Arm64Granule4K, bit, prot};
use kernmem_base::{Granule, Level, PhysAddr, PhysMem, PhysRange, VirtAddr, VirtRange};
use kernmem_pgtable::{Mapping, Sizes, Tables};

use crate::bench::{Bench, Booted, Own, reached};
use crate::notebook::Notebook;
use crate::texts::Text;
use crate::{ClaimId, Holds, Lab, LabError, LabOptions, Value};

const SHARED: ClaimId = ClaimId::new(1, 4);
const OWN: ClaimId = ClaimId::new(1, 5);
const BIT_63: ClaimId = ClaimId::new(1, 6);

pub(crate) const LAB: Lab =
    Lab { name: "ttbr", title: Text::TtbrTitle, reverse: Text::TtbrReverse, claims: &[SHARED, OWN, BIT_63], run };

/// Where both processes of the lab have a page.
const USER: VirtAddr = VirtAddr(0x40_0000);

fn run(options: &LabOptions, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let bench = Bench::open(options, Own::Preset("arm64-4g"))?.of_arm64(LAB.name)?;
    bench.boot(|booted| {
        shared(&bench, booted, book)?;
        own(&bench, booted, book)?;
        bit_63(&bench, booted, options.reverse, book)
    })
}

fn shared(bench: &Bench, booted: &Booted<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let Isa::Arm64(state) = &booted.kernel.isa else { return Err(LabError::Missing("arm64 state")) };
    let config = &bench.source.config;
    book.claim(SHARED, Text::SharedClaim)?;
    let root = booted.kernel_root()?;
    let text = config.symbols.address("_text").ok_or(LabError::Missing("symbol _text"))?;
    let phys = |name| config.symbols.address(name).map(|va| state.text_phys + (va - text));
    let swapper = phys("swapper_pg_dir").ok_or(LabError::Missing("symbol swapper_pg_dir"))?;
    book.say(Text::Ttbr1Is, &[("ttbr1", Value::Address(root.0)), ("swapper_pg_dir", Value::Address(swapper.0))])?;
    if let Some(tramp) = phys("tramp_pg_dir") {
        book.say(Text::Trampoline, &[("tramp_below", Value::Bytes(swapper - tramp))])?;
    }
    let isolates = config.isolates_page_tables(state.displacement != 0);
    book.say(Text::Isolation, &[("isolates", Value::Truth(isolates))])?;
    let holds = match (root == swapper, isolates) {
        (true, false) => Holds::OnlyIf(Text::WithoutAsid),
        (true, true) => Holds::OnlyIf(Text::InTheKernel),
        (false, _) => Holds::No(Text::AnotherRoot),
    };
    book.conclude(bench.era(), holds)
}

/// A root of user mode with one page, in frames of the booted machine.
fn process(booted: &mut Booted<'_>) -> Result<(PhysAddr, PhysAddr), LabError> {
    let (mem, frames) = (booted.kernel.mem, &mut booted.kernel.pages);
    let page = Granule::K4.bytes();
    let mut take = || frames.page().ok_or(LabError::Missing("free page"));
    let (root, data) = (take()?, take()?);
    mem.zero(PhysRange::new(root, root + page))?;
    mem.note(root)?.set_used(0);
    let attrs = Arm64Attrs(prot::PAGE_KERNEL.0 | bit::USER | bit::NG | bit::UXN);
    let mapping = Mapping::<Arm64Granule4K>::new(data, attrs, Sizes::PAGES).with_table_attrs(prot::TABLE_STATIC);
    let range = VirtRange { start: USER, last: USER + (page - 1) };
    let mut tables = Tables::<Arm64Granule4K, _>::new(mem, root);
    match tables.cursor(range).map(frames, &mapping) {
        Ok(stale) => stale.forgive("nothing was mapped there"),
        Err(failed) => {
            failed.stale.forgive("the tree is dropped");
            return Err(failed.error.into());
        }
    }
    Ok((root, data))
}

fn own(bench: &Bench, booted: &mut Booted<'_>, book: &mut Notebook<'_>) -> Result<(), LabError> {
    book.claim(OWN, Text::OwnClaim)?;
    let before = booted.kernel.pages.taken().len();
    let (first, second) = (process(booted)?, process(booted)?);
    let tables = (booted.kernel.pages.taken().len() - before) as u64;
    let page = |root: PhysAddr| -> Result<u64, LabError> {
        let (pa, _) = reached(&booted.steps(root, USER)?, USER).ok_or(LabError::Missing("page of the process"))?;
        Ok(pa.0)
    };
    let (a, b) = (page(first.0)?, page(second.0)?);
    book.say(
        Text::TwoProcesses,
        &[
            ("user", Value::Address(USER.0)),
            ("ttbr0_a", Value::Address(first.0.0)),
            ("page_a", Value::Address(a)),
            ("ttbr0_b", Value::Address(second.0.0)),
            ("page_b", Value::Address(b)),
        ],
    )?;
    let slots = Arm64Granule4K::shape().level(Level::Pgd).entries() as u64;
    book.say(Text::ProcessCost, &[("user_tables", Value::Count(tables + 2)), ("root_slots", Value::Count(slots))])?;
    book.conclude(bench.era(), if a == b { Holds::No(Text::SamePage) } else { Holds::Yes })
}

/// How the rule "bit 63 chooses" fares with every top byte of one address.
#[derive(Clone, Copy, Default)]
struct Tags {
    /// Top bytes with which the address is looked up in some root.
    accepted: u64,
    /// Of these, those where bit 63 names the other root.
    misjudged: u64,
    /// Top bytes with which it faults.
    faults: u64,
}

impl Tags {
    fn of(va: VirtAddr, control: &TranslationControl) -> Self {
        let mut tags = Self::default();
        for tag in 0..=0xff {
            let va = with_tag(va, tag);
            let by_bit_63 = if va.0 >> 63 == 1 { Ttbr::Ttbr1 } else { Ttbr::Ttbr0 };
            match root_of(va, control) {
                Some(root) => {
                    tags.accepted += 1;
                    tags.misjudged += u64::from(root != by_bit_63);
                }
                None => tags.faults += 1,
            }
        }
        tags
    }
}

const fn with_tag(va: VirtAddr, tag: u8) -> VirtAddr {
    VirtAddr(va.0 & (!0 >> 8) | (tag as u64) << 56)
}

fn bit_63(bench: &Bench, booted: &Booted<'_>, reverse: bool, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let Isa::Arm64(state) = &booted.kernel.isa else { return Err(LabError::Missing("arm64 state")) };
    let kconfig = &bench.source.config.kconfig;
    book.claim(BIT_63, Text::Bit63Claim)?;
    let tags = kconfig.is_set("KASAN_SW_TAGS") || kconfig.is_set("KASAN_HW_TAGS");
    let bits = state.layout.va_bits_actual;
    let linux = TranslationControl::of_kernel(bits, tags);
    let control = if reverse { linux.without_tags() } else { linux };
    let kernel = state.linear(state.text_phys);
    let (of_user, of_kernel) = (Tags::of(USER, &control), Tags::of(kernel, &control));
    book.say(
        Text::Tbi,
        &[
            ("tbi0", Value::Truth(control.lower.ignores_top_byte)),
            ("tbi1", Value::Truth(control.upper.ignores_top_byte)),
        ],
    )?;
    book.say(Text::TagsOfUser, &numbers(["user_accepted", "user_misjudged", "user_faults"], of_user))?;
    book.say(Text::TagsOfKernel, &numbers(["kernel_accepted", "kernel_misjudged", "kernel_faults"], of_kernel))?;
    let tagging = Tags::of(kernel, &TranslationControl::of_kernel(bits, true));
    book.say(Text::TagsWithKasan, &numbers(["tagging_accepted", "tagging_misjudged", "tagging_faults"], tagging))?;
    walk_tagged(booted, kernel, book)?;
    let misjudged = of_user.misjudged + of_kernel.misjudged;
    book.conclude(bench.era(), if misjudged == 0 { Holds::Yes } else { Holds::OnlyIf(Text::NoTags) })
}

fn numbers(names: [&'static str; 3], tags: Tags) -> [(&'static str, Value); 3] {
    let values = [tags.accepted, tags.misjudged, tags.faults].map(Value::Count);
    let [accepted, misjudged, faults] = values;
    [(names[0], accepted), (names[1], misjudged), (names[2], faults)]
}

/// A tagged address takes the way of the untagged one: no index of the walk holds a bit of the tag.
fn walk_tagged(booted: &Booted<'_>, plain: VirtAddr, book: &mut Notebook<'_>) -> Result<(), LabError> {
    let root = booted.kernel_root()?;
    let tagged = with_tag(plain, 0x3c);
    let reach = |va| -> Result<u64, LabError> {
        let (pa, _) = reached(&booted.steps(root, va)?, va).ok_or(LabError::Missing("linear map of the image"))?;
        Ok(pa.0)
    };
    book.say(
        Text::TaggedWalk,
        &[
            ("plain", Value::Address(plain.0)),
            ("plain_pa", Value::Address(reach(plain)?)),
            ("tagged", Value::Address(tagged.0)),
            ("tagged_pa", Value::Address(reach(tagged)?)),
        ],
    )
}
