//! Any bytes as the types of a kernel (BTF): no panic, and every size that is told is found by its name.
#![no_main]

use kernmem_config::Sizes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(sizes) = Sizes::from_btf(data) else { return };
    for (name, value) in sizes.iter() {
        assert!(name.starts_with("sizeof_"), "{name}");
        assert!(value <= u64::from(u32::MAX), "a size of BTF has 32 bits");
        assert_eq!(sizes.get(name), Some(value));
    }
});
