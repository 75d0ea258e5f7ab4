//! The files that belong to one kernel: configuration, symbols, sizes.

use std::path::Path;

use kernmem_config::{KernelConfig, Sizes, Symbols};

use crate::{SourceError, read};

/// One kernel's files, parsed.
#[derive(Clone, Debug, Default)]
pub(crate) struct KernelFiles {
    pub(crate) kconfig: KernelConfig,
    pub(crate) symbols: Symbols,
    pub(crate) sizes: Sizes,
}

impl KernelFiles {
    /// Reads `config`, `System.map` (or `System.map.zst`) and `sizes.csv` of a folder; sizes may be missing.
    pub(crate) fn open(folder: &Path) -> Result<Self, SourceError> {
        let plain = folder.join("System.map");
        let map = if plain.exists() { plain } else { folder.join("System.map.zst") };
        let sizes = folder.join("sizes.csv");
        let sizes = if sizes.exists() { read::text(&sizes)? } else { String::new() };
        Ok(Self {
            kconfig: KernelConfig::parse(&read::text(&folder.join("config"))?),
            symbols: Symbols::parse(&read::text(&map)?),
            sizes: Sizes::parse(&sizes),
        })
    }

    /// The files of a preset, embedded and packed.
    pub(crate) fn embedded(name: &str, config: &[u8], map: &[u8], sizes: &str) -> Result<Self, SourceError> {
        let text = |packed: &[u8]| {
            let name = Path::new(name);
            read::into_text(name, read::unpack(name, packed.to_vec())?)
        };
        Ok(Self {
            kconfig: KernelConfig::parse(&text(config)?),
            symbols: Symbols::parse(&text(map)?),
            sizes: Sizes::parse(sizes),
        })
    }
}
