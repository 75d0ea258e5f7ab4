//! The order of steps.

use alloc::format;
use alloc::vec::Vec;

use kernmem_arch::arm64::{
    Arm64Format, FixmapFacts, Geometry, Layout, LayoutFacts, WithArm64, kaslr, va_bits_choices, va_bits_min,
};
use kernmem_arch::{Bound, Reason};
use kernmem_base::{Era, Granule, PhysAddr, PhysMem, PhysRange, Size};
use kernmem_config::{Arm64Cpu, Config, KptiFacts, Rodata};
use kernmem_firmware::{Arch, Machine};
use kernmem_memblock::{Limits, Memblock, VecArray};
use kernmem_pgtable::Tables;

use crate::arm64::image::image_start;
use crate::arm64::{EarlyRoots, State, kasan, late, later, mm_init};
use crate::kasan::ZeroShadow;
use crate::takers::swiotlb;
use crate::{Boot, BootError, Image, Isa, Kernel, LogEntry, Roots, Witness};

/// Everything that the steps share.
pub(super) struct Booting<'m, 'c, F, M, W> {
    pub mem: &'m M,
    pub machine: &'c Machine,
    pub config: &'c Config,
    pub cpu: &'c Arm64Cpu,
    pub image: Image<'c>,
    pub tables: Tables<'m, F, M>,
    pub memblock: Memblock<VecArray, W>,
    pub state: State,
    pub rodata: Rodata,
    /// Seed of the linear map's place; 0 leaves it.
    pub memstart_seed: u16,
    /// Known edges of memory and what they are.
    pub edges: Vec<(PhysAddr, Bound)>,
    /// The crash kernel's memory, where it was reserved before there were tables.
    pub crash: Option<PhysRange>,
    /// Why mappings are not global, if they are not.
    pub not_global: Option<Reason>,
    /// Why the kernel is unmapped for user mode; empty where it is not.
    pub apart: &'static [Reason],
}

/// An image is loaded at a multiple of this if it cannot be moved.
const IMAGE_ALIGN: u64 = 2 << 20;

/// Where an emulator's boot loader puts the image if nothing tells: 2 MiB into memory.
const DEFAULT_TEXT_OFFSET: u64 = 2 << 20;

/// Where such a boot loader puts a devicetree: behind the usual place of an initrd.
const DEFAULT_DTB_OFFSET: u64 = 0x820_0000;

/// Boots an arm64 kernel.
///
/// # Errors
/// As [`crate::boot`].
pub fn boot<'m, M: PhysMem, W: Witness>(
    mem: &'m M,
    boot: &Boot<'_>,
    witness: W,
) -> Result<Kernel<'m, M, W>, BootError> {
    let geometry = geometry(boot.config)?;
    geometry.with(Run { mem, boot, witness, geometry })
}

/// A boot whose tables are known as a value.
struct Run<'m, 'b, 'c, M, W> {
    mem: &'m M,
    boot: &'b Boot<'c>,
    witness: W,
    geometry: Geometry,
}

impl<'m, M: PhysMem, W: Witness> WithArm64 for Run<'m, '_, '_, M, W> {
    type Output = Result<Kernel<'m, M, W>, BootError>;

    fn run<F: Arm64Format>(self) -> Self::Output {
        run::<F, M, W>(self.mem, self.boot, self.witness, self.geometry)
    }
}

fn run<'m, F: Arm64Format, M: PhysMem, W: Witness>(
    mem: &'m M,
    boot: &Boot<'_>,
    witness: W,
    geometry: Geometry,
) -> Result<Kernel<'m, M, W>, BootError> {
    let mut booting = Booting::<F, M, W>::new(mem, boot, witness, geometry)?;
    booting.early_tables()?;
    booting.kasan_early_init()?;
    booting.arm64_memblock_init()?;
    let idmap = booting.paging_init()?;
    let physical_bits = booting.physical_mask_shift();
    let Booting { machine, config, image, mut tables, mut memblock, state, rodata, not_global, apart, .. } = booting;
    let shared = later::Shared { machine, config, state: &state, not_global, apart, physical_bits };
    let later::Brought { sections, mut nodes, gigantic } = later::bootmem_init(&shared, &mut tables, &mut memblock)?;
    kasan::kasan_init(&shared, &image, &mut tables, &mut memblock)?;
    let prepared = mm_init::take(&shared, &image, &mut memblock, &nodes, gigantic)?;
    let mut late = late::Late::new(&shared, image, &mut tables, memblock, &mut nodes, rodata, boot)?;
    late.run(&prepared)?;
    let (memblock, frames) = late.finish();
    frames.settle(&nodes, boot);
    let roots = Roots { kernel: tables.root(), user: None, idmap: Some(idmap) };
    let era = config.era;
    Ok(Kernel {
        mem,
        era,
        granule: geometry.granule(),
        isa: Isa::Arm64(state),
        roots,
        memblock,
        sections,
        nodes,
        gigantic: prepared.gigantic,
        pages: frames,
    })
}

impl<'m, 'c, F: Arm64Format, M: PhysMem, W: Witness> Booting<'m, 'c, F, M, W> {
    fn new(mem: &'m M, boot: &Boot<'c>, witness: W, geometry: Geometry) -> Result<Self, BootError> {
        let (machine, config) = (boot.machine, boot.config);
        let cpu = config.cpu.arm64().ok_or_else(|| BootError::Input("the CPU is no arm64 model".into()))?;
        check_modelled(config)?;
        let layout = layout(config, cpu, geometry.granule());
        let start = machine.memory.iter().map(|bank| bank.range.start).min();
        let start = start.ok_or_else(|| BootError::Input("the machine has no memory".into()))?;
        let text_phys = config.given.text_phys.unwrap_or(start.align_down(DEFAULT_TEXT_OFFSET) + DEFAULT_TEXT_OFFSET);
        let at_link = Image::new(&config.symbols, None, text_phys)?;
        let (offset, memstart_seed) = displacement(machine, config, &layout, &at_link)?;
        let virt = at_link.virt("_text")? + offset;
        let image = Image::new(&config.symbols, Some(virt), text_phys)?;
        let covered = image
            .range(image_start(config.era), "_end")?
            .ok_or_else(|| BootError::Input("symbols: _text is _end".into()))?;
        let (not_global, apart) = isolation(config, cpu, is_kaslr(config.era, offset));
        let zero_shadow = layout.kasan.map(|_| ZeroShadow::of_image(&image, F::shape().levels)).transpose()?;
        let state = State {
            geometry,
            layout,
            memstart: 0,
            image: covered,
            text_phys,
            image_phys: image.phys_of(covered.start),
            displacement: offset,
            not_global: not_global.is_some(),
            isolates: !apart.is_empty(),
            identity: identity_geometry(config.era, geometry, image.phys("_end")?),
            kfence_pool: None,
            zero_shadow,
            initrd: None,
            early: EarlyRoots { identity: PhysAddr(0), kernel: PhysAddr(0) },
        };
        let limits = Limits {
            max_nodes: config.max_nodes(),
            numa: config.kconfig.is_set("NUMA"),
            kernelcore_mirror: config.cmdline.last_value("kernelcore") == Some("mirror"),
            movable_node: config.cmdline.has("movable_node"),
            ..Limits::new_64bit(geometry.granule())
        };
        let memblock =
            Memblock::new(config.era, limits, VecArray::with_capacity(128), VecArray::with_capacity(128), witness);
        let root = image.phys("swapper_pg_dir")?;
        let rodata = config.rodata().value;
        Ok(Self {
            mem,
            machine,
            config,
            cpu,
            image,
            tables: Tables::new(mem, root),
            memblock,
            state,
            rodata,
            memstart_seed,
            edges: Vec::new(),
            crash: None,
            not_global,
            apart,
        })
    }

    /// The page size.
    pub(super) const fn granule(&self) -> Granule {
        self.state.granule()
    }

    /// Bytes of a page.
    pub(super) const fn page(&self) -> u64 {
        self.granule().bytes()
    }

    /// Where the devicetree lies, if there is one.
    pub(super) fn dtb(&self) -> Option<PhysAddr> {
        self.machine.devicetree_size?;
        let start = self.machine.memory.iter().map(|bank| bank.range.start).min().unwrap_or_default();
        Some(self.config.given.dtb.unwrap_or(start + DEFAULT_DTB_OFFSET))
    }

    /// Tells the log that the command line is known.
    pub(super) fn params_parsed(&mut self) {
        self.memblock.observer().log(LogEntry::ParamsParsed);
        swiotlb::parsed(self.config, self.memblock.observer());
    }
}

fn check_modelled(config: &Config) -> Result<(), BootError> {
    let kconfig = &config.kconfig;
    match config.era {
        Era::V5_10 | Era::V6_1 | Era::V6_12 | Era::V7_2 => {}
        era @ Era::V4_14 => return Err(BootError::Beyond(format!("an arm64 kernel of Linux {era}"))),
    }
    if config.cmdline.last_value("percpu_alloc") == Some("page") {
        return Err(BootError::Beyond("per-CPU areas page by page".into()));
    }
    // Without DMA_CMA nobody reads `cma=`.
    let default_cma = kconfig.number("CMA_SIZE_MBYTES").unwrap_or(0) != 0;
    if kconfig.is_set("DMA_CMA") && (default_cma || config.cmdline.has("cma")) {
        return Err(BootError::Beyond("an arm64 kernel with a CMA area".into()));
    }
    Ok(())
}

/// Page size and bits of the tables: what was configured, less what the CPU lacks.
fn geometry(config: &Config) -> Result<Geometry, BootError> {
    let granule = config.kconfig.arm64_granule();
    let built = va_bits(config);
    let cpu = config.cpu.arm64().ok_or_else(|| BootError::Input("the CPU is no arm64 model".into()))?;
    if !va_bits_choices(config.era, granule).contains(&built) {
        let (era, page) = (config.era, Size(granule.bytes()));
        return Err(BootError::Input(format!("Linux {era} has no kernel with {page} pages and {built} address bits")));
    }
    if !cpu.has_granule(granule) {
        return Err(BootError::Input(format!("this CPU has no {} pages", Size(granule.bytes()))));
    }
    let in_use = va_bits_in_use(config, cpu, granule);
    Geometry::in_use(granule, built, in_use)
        .ok_or_else(|| BootError::Beyond(format!("an arm64 kernel with {built} address bits")))
}

/// The address bits that were configured.
fn va_bits(config: &Config) -> u32 {
    config.kconfig.number("ARM64_VA_BITS").map_or(48, |bits| bits as u32)
}

/// The address bits that are in use: fewer than 52 on a CPU without them.
///
/// Source: Linux 5.10, 6.1 arch/arm64/kernel/head.S `primary_entry`; 6.12, 7.2 arch/arm64/kernel/pi/map_kernel.c.
fn va_bits_in_use(config: &Config, cpu: &Arm64Cpu, granule: Granule) -> u32 {
    let built = va_bits(config);
    let has_all = cpu.has_52_bits(granule);
    let turned_off = matches!(config.era, Era::V6_12 | Era::V7_2) && config.cmdline.has("arm64.nolva");
    if built == 52 && (!has_all || turned_off) { va_bits_min(granule, built) } else { built }
}

fn layout(config: &Config, cpu: &Arm64Cpu, granule: Granule) -> Layout {
    let set = |name| config.kconfig.is_set(name);
    let fixmap = FixmapFacts {
        era: config.era,
        granule,
        relocatable: set("RELOCATABLE"),
        unmap_at_el0: set("UNMAP_KERNEL_AT_EL0"),
        ghes: set("ACPI_APEI_GHES"),
        sdei: set("ARM_SDE_INTERFACE"),
        vncr_slots: 0,
    };
    Layout::new(&LayoutFacts {
        era: config.era,
        granule,
        va_bits: va_bits(config),
        va_bits_actual: va_bits_in_use(config, cpu, granule),
        kasan: kasan::mode(config),
        fixmap,
    })
}

/// How far the image moves, and the seed of the linear map.
fn displacement(
    machine: &Machine,
    config: &Config,
    layout: &Layout,
    at_link: &Image<'_>,
) -> Result<(u64, u16), BootError> {
    let text = at_link.virt("_text")?;
    if let Some(virt) = config.given.text_virt {
        let offset = virt.0.checked_sub(text.0);
        return offset
            .map(|offset| (offset, 0))
            .ok_or_else(|| BootError::Input("given text_virt lies below _text".into()));
    }
    let seed = machine.kaslr_seed.unwrap_or(0);
    let built = config.kconfig.is_set("RANDOMIZE_BASE");
    if seed == 0 || !built || config.cmdline.nokaslr(config.era, Arch::Arm64) {
        // The place within 2 MiB is that of the memory, where the image can be moved at all.
        let within = at_link.phys("_text")?.0 % IMAGE_ALIGN;
        return Ok((if config.kconfig.is_set("RELOCATABLE") { within } else { 0 }, 0));
    }
    let moved = kaslr::displacement(
        config.era,
        va_bits_min(config.kconfig.arm64_granule(), va_bits(config)),
        layout,
        at_link.phys("_text")?.0,
        seed,
    );
    Ok((moved.image, moved.memstart_seed))
}

/// Whether an image that was moved by `offset` counts as moved at random.
///
/// | era | when |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | it was moved at all |
/// | 6.12, 7.2 | by 2 MiB or more: less follows from where it was loaded |
///
/// Source: Linux 5.10, 6.1 arch/arm64/include/asm/memory.h `kaslr_offset`; 6.12, 7.2 the same `kaslr_enabled`.
const fn is_kaslr(era: Era, offset: u64) -> bool {
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => offset != 0,
        Era::V6_12 | Era::V7_2 => offset >= 2 << 20,
    }
}

/// Page size and bits of the identity maps of an image that ends at `image_end`.
///
/// | era | bits |
/// |---|---|
/// | 4.14 (UNVERIFIED), 5.10, 6.1 | the kernel's; one level more if the image lies above what fewer than 48 bits reach |
/// | 6.12, 7.2 | 48 |
///
/// Source: Linux 5.10, 6.1 arch/arm64/kernel/head.S `create_idmap`; 6.12, 7.2 arch/arm64/include/asm/kernel-pgtable.h
/// `IDMAP_VA_BITS`.
fn identity_geometry(era: Era, kernel: Geometry, image_end: PhysAddr) -> Geometry {
    let page = kernel.granule().shift();
    let of = |bits| Geometry::of(page, bits).unwrap_or(kernel);
    match era {
        Era::V4_14 | Era::V5_10 | Era::V6_1 => match kernel.va_bits() {
            bits if bits >= 48 || image_end.0 >> bits == 0 => kernel,
            36 => of(47),
            _ => of(48),
        },
        Era::V6_12 | Era::V7_2 => of(48),
    }
}

/// Why kernel mappings belong to an ASID, if they do, and why the kernel is unmapped for user mode, if it is: KASLR asks for
/// page-table isolation early, unless the kernel uses the CPU's E0PD; otherwise isolation may be turned on later, which
/// rewrites every mapping.
///
/// Source: Linux 5.10–7.2 arch/arm64/kernel/cpufeature.c `kaslr_requires_kpti`, `unmap_kernel_at_el0`.
fn isolation(config: &Config, cpu: &Arm64Cpu, kaslr: bool) -> (Option<Reason>, &'static [Reason]) {
    let e0pd = cpu.has_e0pd() && config.kconfig.is_set("ARM64_E0PD");
    let facts = KptiFacts {
        unmap_built_in: config.kconfig.is_set("UNMAP_KERNEL_AT_EL0"),
        e0pd_built_in: config.kconfig.is_set("ARM64_E0PD"),
        forced: config.cmdline.kpti(config.era).value,
        kaslr,
        mitigations_off: config.cmdline.mitigations_off(),
    };
    let apart: &[Reason] = match (cpu.kpti_needed(facts), cpu.kpti_needed(KptiFacts { kaslr: false, ..facts })) {
        (false, _) => &[],
        (true, false) => &[Reason::ApartKaslr, Reason::ApartKpti],
        (true, true) => &[Reason::ApartKpti],
    };
    let isolates = !apart.is_empty();
    let reason = if kaslr && !e0pd { Some(Reason::NotGlobalKaslr) } else { isolates.then_some(Reason::NotGlobalKpti) };
    (reason, apart)
}

#[cfg(test)]
mod tests {
    use super::super::test_support::config;
    use super::*;

    const ERAS: [Era; 4] = [Era::V5_10, Era::V6_1, Era::V6_12, Era::V7_2];

    /// Facts: an identity map has a level more for a high image up to 6.1, and 48 bits later.
    #[test]
    fn identity_maps_reach_the_image() {
        let bits = |page, va_bits, end: u64| {
            let kernel = Geometry::of(page, va_bits).unwrap();
            ERAS.map(|era| identity_geometry(era, kernel, PhysAddr(end)).va_bits())
        };
        assert_eq!(bits(12, 39, 0x4080_0000), [39, 39, 48, 48]);
        assert_eq!(bits(12, 39, 1 << 39), [48; 4]);
        assert_eq!(bits(14, 36, 1 << 36), [47, 47, 48, 48]);
        assert_eq!(bits(14, 47, 1 << 47), [48; 4]);
        assert_eq!(bits(16, 42, 1 << 42), [48; 4]);
        assert_eq!(bits(16, 52, 0x4080_0000), [52, 52, 48, 48]);
    }

    #[test]
    fn an_image_that_moved_by_less_than_its_alignment_is_random_up_to_6_1_alone() {
        assert_eq!(ERAS.map(|era| is_kaslr(era, 0)), [false; 4]);
        assert_eq!(ERAS.map(|era| is_kaslr(era, 64 << 10)), [true, true, false, false]);
        assert_eq!(ERAS.map(|era| is_kaslr(era, 2 << 20)), [true; 4]);
    }

    /// Facts: KASLR asks for isolation unless the kernel uses E0PD; `kpti=off` leaves mappings that are not global.
    #[test]
    fn isolation_and_its_mark_are_two_things() {
        let cpu = Arm64Cpu::by_model("cortex-a72").unwrap();
        let options = "CONFIG_UNMAP_KERNEL_AT_EL0=y\n";
        for era in ERAS {
            let of = |line: &str, kaslr| isolation(&config(era, line, options), &cpu, kaslr);
            let (by_kaslr, by_word): (&[Reason], &[Reason]) =
                (&[Reason::ApartKaslr, Reason::ApartKpti], &[Reason::ApartKpti]);
            assert_eq!(of("", false), (None, &[] as &[Reason]), "this model needs none");
            assert_eq!(of("", true), (Some(Reason::NotGlobalKaslr), by_kaslr));
            assert_eq!(of("kpti=off", true), (Some(Reason::NotGlobalKaslr), &[] as &[Reason]));
            assert_eq!(of("kpti=on", true), (Some(Reason::NotGlobalKaslr), by_word));
            assert_eq!(of("kpti=on", false), (Some(Reason::NotGlobalKpti), by_word));
        }
    }

    #[test]
    fn kernels_before_5_10_are_beyond_the_model() {
        assert!(matches!(check_modelled(&config(Era::V4_14, "", "")), Err(BootError::Beyond(_))));
        assert!(ERAS.iter().all(|era| check_modelled(&config(*era, "", "")).is_ok()));
    }
}
