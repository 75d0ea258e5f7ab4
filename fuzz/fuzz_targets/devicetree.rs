//! Any bytes as a devicetree: no panic, and what is found lies in order.
#![no_main]

use kernmem_firmware::Devicetree;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(tree) = Devicetree::parse(data) else { return };
    let machine = tree.machine();
    assert!(machine.memory.iter().all(|bank| bank.range.start < bank.range.end));
    assert!(machine.reserved.iter().flat_map(|entry| &entry.ranges).all(|range| range.start < range.end));
    assert!(tree.total_size() as usize <= data.len());
    let shape = machine.tree.expect("a tree has a shape");
    assert_eq!(shape.nodes(), tree.nodes().count());
    assert!(shape.unflattened_size(208, 96) >= 208 * shape.nodes() as u64);
    for node in tree.nodes() {
        assert!(tree.children(node).all(|child| tree.parent(child) == node));
        for (name, _) in tree.properties(node) {
            if let Ok(name) = core::str::from_utf8(name) {
                assert!(tree.property(node, name).is_some());
            }
        }
    }
});
