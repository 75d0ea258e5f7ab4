//! Any text as a System.map: sorted, each name is found, each place is explained by a symbol at or below it.
#![no_main]

use kernmem_config::Symbols;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let symbols = Symbols::parse(text);
    let mut last = None;
    for symbol in symbols.iter() {
        assert!(last <= Some(symbol.address));
        last = Some(symbol.address);
        assert!(symbols.address(&symbol.name).is_some_and(|lowest| lowest <= symbol.address));
        if let Some((found, offset)) = symbols.lookup(symbol.address) {
            assert_eq!(found.address + offset, symbol.address);
        }
    }
});
