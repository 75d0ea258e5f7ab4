//! The files that belong to one kernel: configuration, symbols, sizes.

use std::path::Path;

use kernmem_config::{KernelConfig, Sizes, Symbols};

use crate::{Problem, SourceError, read};

/// One kernel's files, parsed.
#[derive(Clone, Debug, Default)]
pub(crate) struct KernelFiles {
    pub(crate) kconfig: KernelConfig,
    pub(crate) symbols: Symbols,
    pub(crate) sizes: Sizes,
}

impl KernelFiles {
    /// Reads `config`, `System.map` (or `System.map.zst`), `btf` and `sizes.csv` of a folder. Both sources of sizes may be
    /// missing; what `sizes.csv` says goes before what `btf` says.
    pub(crate) fn open(folder: &Path) -> Result<Self, SourceError> {
        let plain = folder.join("System.map");
        let map = if plain.exists() { plain } else { folder.join("System.map.zst") };
        let (btf, lines) = (folder.join("btf"), folder.join("sizes.csv"));
        let mut sizes = Sizes::default();
        if btf.exists() {
            sizes = Sizes::from_btf(&read::file(&btf)?).ok_or_else(|| SourceError::new(btf, Problem::Btf))?;
        }
        if lines.exists() {
            sizes.extend(Sizes::parse(&read::text(&lines)?));
        }
        Ok(Self {
            kconfig: KernelConfig::parse(&read::text(&folder.join("config"))?),
            symbols: Symbols::parse(&read::text(&map)?),
            sizes,
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
