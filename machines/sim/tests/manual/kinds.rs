//! Every format of the code under test beside its manual, by number.

use kernmem_arch::arm64::ttbr::{HalfControl, TranslationControl};
use kernmem_arch::arm64::{Arm64, Geometry, mmu as arm64};
use kernmem_arch::i386::{I386Level2, I386Pae};
use kernmem_arch::x86::layout::Paging;
use kernmem_arch::x86::{X86, mmu as x86};
use kernmem_arch::{Format, MmuFormat};

use super::{Registers, Tables, bit};

/// How many formats there are.
pub const FORMATS: usize = 14;

/// What is done with a format once its type is known.
pub trait WithKind {
    /// What comes out.
    type Output;

    /// Does it.
    fn run<F: Kind>(self) -> Self::Output;
}

/// Calls `then` with the type of format number `which`.
pub fn with<T: WithKind>(which: usize, then: T) -> T::Output {
    match which {
        0 => then.run::<Arm64<12, 39>>(),
        1 => then.run::<Arm64<12, 48>>(),
        2 => then.run::<Arm64<12, 52>>(),
        3 => then.run::<Arm64<14, 36>>(),
        4 => then.run::<Arm64<14, 47>>(),
        5 => then.run::<Arm64<14, 48>>(),
        6 => then.run::<Arm64<14, 52>>(),
        7 => then.run::<Arm64<16, 42>>(),
        8 => then.run::<Arm64<16, 48>>(),
        9 => then.run::<Arm64<16, 52>>(),
        10 => then.run::<X86<4>>(),
        11 => then.run::<X86<5>>(),
        12 => then.run::<I386Pae>(),
        13 => then.run::<I386Level2>(),
        _ => panic!("there is no format {which}"),
    }
}

struct FormatOf;

impl WithKind for FormatOf {
    type Output = Format;

    fn run<F: Kind>(self) -> Format {
        F::format()
    }
}

/// The number of a format.
pub fn number(format: Format) -> usize {
    (0..FORMATS).find(|which| with(*which, FormatOf) == format).expect("every format has a number")
}

/// A format under test.
pub trait Kind: MmuFormat {
    /// Its name as a value.
    fn format() -> Format;

    /// Where the memory of a test lies, so that addresses of tables have high bits.
    const RAM: u64;

    /// Registers that `flags` and `bits` choose.
    fn chosen_registers(flags: u64, bits: u64) -> (Self::Control, Registers);

    /// The manual's tables.
    fn tables() -> Tables {
        Tables::of(Self::format())
    }
}

impl<const PAGE: u32, const VA: u32> Kind for Arm64<PAGE, VA> {
    fn format() -> Format {
        Format::Arm64(Geometry::of(PAGE, VA).expect("arm64 has such tables"))
    }

    const RAM: u64 = if PAGE == 16 || VA == 52 { 0xd_8000_0000_0000 } else { 0x8000_0000_0000 };

    fn chosen_registers(flags: u64, bits: u64) -> (Self::Control, Registers) {
        let has = |number: u32| bit(flags, number);
        let half = |number| HalfControl { bits: VA, ignores_top_byte: has(number) };
        let walks =
            |number| arm64::WalkControl { is_off: has(number) && has(number + 1), refuses_user: has(number + 1) };
        let control = arm64::Control {
            translation: TranslationControl { lower: half(0), upper: half(1) },
            compares_fetched_tags: has(2),
            lower: walks(3),
            upper: walks(5),
            output_bits: [52, 52, 52, 48, 52, 40, 52, 32][(bits % 8) as usize],
            sets_access_flag: has(7),
            sets_dirty: has(8),
            pan: has(9),
            epan: has(10),
            wxn: has(11),
            ..Default::default()
        };
        (control, Registers::Arm64(control))
    }
}

fn x86_registers(flags: u64, bits: u64) -> (x86::Control, Registers) {
    let has = |number: u32| bit(flags, number);
    let control = x86::Control {
        physical_bits: [52, 52, 52, 46, 52, 36, 52, 32][(bits % 8) as usize],
        has_gib_pages: has(0),
        nxe: has(1),
        wp: has(2),
        smep: has(3),
        smap: has(4),
        ..Default::default()
    };
    (control, Registers::X86(control))
}

macro_rules! x86_kind {
    ([$($generics:tt)*] $type:ty, $format:expr, $ram:literal) => {
        impl<$($generics)*> Kind for $type {
            fn format() -> Format {
                $format
            }

            const RAM: u64 = $ram;

            fn chosen_registers(flags: u64, bits: u64) -> (Self::Control, Registers) {
                x86_registers(flags, bits)
            }
        }
    };
}

x86_kind!([const LEVELS: usize] X86<LEVELS>, if LEVELS == 4 { Format::x86(Paging::Level4) } else { Format::x86(Paging::Level5) }, 0x8_8000_0000_0000);
x86_kind!([] I386Pae, Format::I386Pae, 0x9_0000_0000);
x86_kind!([] I386Level2, Format::I386Level2, 0x9000_0000);
