//! Random operations on several processes beside the model of `play`, in every format and era.

mod play;

use kernmem_arch::arm64::Arm64Granule4K;
use kernmem_arch::x86::{X86Level4, X86Level5};
use kernmem_base::Era;
use play::{Op, play};
use proptest::prelude::*;

fn ops() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(any::<[u16; 5]>().prop_map(Op::of_words), 1..60)
}

fn era() -> impl Strategy<Value = Era> {
    prop_oneof![Just(Era::V5_10), Just(Era::V6_1), Just(Era::V6_12), Just(Era::V7_2)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn processes_of_arm64_agree_with_the_model(era in era(), ops in ops()) {
        play::<Arm64Granule4K>(era, 256, ops);
    }

    #[test]
    fn processes_of_x86_agree_with_the_model(era in era(), ops in ops()) {
        play::<X86Level4>(era, 256, ops);
    }

    #[test]
    fn processes_of_x86_with_five_levels_agree_with_the_model(era in era(), ops in ops()) {
        play::<X86Level5>(era, 256, ops);
    }

    #[test]
    fn processes_that_run_out_of_memory_agree_with_the_model(era in era(), frames in 8_u64..40, ops in ops()) {
        play::<X86Level4>(era, frames, ops.clone());
        play::<X86Level5>(era, frames, ops.clone());
        play::<Arm64Granule4K>(era, frames, ops);
    }
}
