//! Regions against what the kernels' documentation and headers say.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use crate::common::{json, kernmem};

/// The rows of Documentation/arm64/memory.rst of the last releases before 5.11 (4K pages, 48 bits), as a reader of the
/// documents met them: a kernel with KASAN.
const MEMORY_RST: &str = "\
0000000000000000	0000ffffffffffff	 256TB		user
ffff000000000000	ffff7fffffffffff	 128TB		kernel logical memory map
ffff800000000000	ffff9fffffffffff	  32TB		kasan shadow region
ffffa00000000000	ffffa00007ffffff	 128MB		bpf jit region
ffffa00008000000	ffffa0000fffffff	 128MB		modules
ffffa00010000000	fffffdffbffeffff	 ~93TB		vmalloc
fffffdffbfff0000	fffffdfffe5f8fff	~998MB		[guard region]
fffffdfffe5f9000	fffffdfffe9fffff	4124KB		fixed mappings
fffffdfffea00000	fffffdfffebfffff	   2MB		[guard region]
fffffdfffec00000	fffffdffffbfffff	  16MB		PCI I/O space
fffffdffffc00000	fffffdffffdfffff	   2MB		[guard region]
fffffdffffe00000	ffffffffffdfffff	   2TB		vmemmap
ffffffffffe00000	ffffffffffffffff	   2MB		[guard region]
";

/// The rows of the first table.
fn rows(text: &str) -> Vec<&str> {
    text.lines().skip(4).take_while(|line| !line.is_empty()).map(str::trim_start).collect()
}

#[test]
fn the_layout_of_5_10_is_the_documentations_table() {
    let text = kernmem(&["layout", "--era", "5.10", "--kasan", "generic"]).good();
    assert_eq!(rows(&text), MEMORY_RST.lines().collect::<Vec<_>>());
}

/// Start and last address of the row with that use.
#[track_caller]
fn row(text: &str, name: &str) -> (String, String) {
    let found = rows(text).into_iter().find(|row| row.ends_with(&format!("\t{name}")));
    let mut cells = found.unwrap_or_else(|| panic!("no row {name} in\n{text}")).split('\t');
    (cells.next().unwrap_or_default().to_owned(), cells.next().unwrap_or_default().to_owned())
}

#[track_caller]
fn check(args: &[&str], expected: &[(&str, &str, &str)]) {
    let text = kernmem(&[&["layout"], args].concat()).good();
    for (name, start, last) in expected {
        assert_eq!(row(&text, name), ((*start).to_owned(), (*last).to_owned()), "{name} in\n{text}");
    }
    // Without a hole: each row behind the user half begins where the one before it ends.
    let bounds: Vec<(u64, u64)> = rows(&text)
        .iter()
        .filter(|row| !row.starts_with('['))
        .map(|row| {
            let mut cells = row.split('\t').map(|cell| u64::from_str_radix(cell, 16).expect("hexadecimal"));
            let mut cell = || cells.next().expect("start and end");
            (cell(), cell())
        })
        .collect();
    assert!(bounds[1..].windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "{text}");
    assert_eq!(bounds.last().expect("rows").1, u64::MAX);
}

/// The worked values of the kernels' formulas without KASAN, 4K pages, 48 bits.
#[test]
fn layouts_have_the_values_of_the_headers() {
    check(
        &["--era", "4.14"],
        &[
            ("modules", "ffff000000000000", "ffff000007ffffff"),
            ("vmalloc", "ffff000008000000", "ffff7dffbffeffff"),
            ("PCI I/O space", "ffff7dfffee00000", "ffff7dffffdfffff"),
            ("vmemmap", "ffff7e0000000000", "ffff7fffffffffff"),
            ("kernel logical memory map", "ffff800000000000", "ffffffffffffffff"),
        ],
    );
    check(
        &["--era", "5.10"],
        &[
            ("kernel logical memory map", "ffff000000000000", "ffff7fffffffffff"),
            ("modules", "ffff800008000000", "ffff80000fffffff"),
            ("vmalloc", "ffff800010000000", "fffffdffbffeffff"),
            ("PCI I/O space", "fffffdfffec00000", "fffffdffffbfffff"),
            ("vmemmap", "fffffdffffe00000", "ffffffffffdfffff"),
        ],
    );
    check(
        &["--era", "6.1"],
        &[
            ("kernel logical memory map", "ffff000000000000", "ffff7fffffffffff"),
            ("modules", "ffff800000000000", "ffff800007ffffff"),
            ("vmalloc", "ffff800008000000", "fffffbffefffffff"),
            ("fixed mappings (top down)", "fffffbfff0000000", "fffffbfffdffffff"),
            ("PCI I/O space", "fffffbfffe800000", "fffffbffff7fffff"),
            ("vmemmap", "fffffc0000000000", "fffffdffffffffff"),
        ],
    );
    for era in ["6.12", "7.2"] {
        check(
            &["--era", era],
            &[
                ("modules", "ffff800000000000", "ffff80007fffffff"),
                ("vmalloc", "ffff800080000000", "fffffdffbf7fffff"),
                ("vmemmap", "fffffdffc0000000", "ffffffffbfffffff"),
                ("PCI I/O space", "ffffffffc0800000", "ffffffffc17fffff"),
            ],
        );
    }
}

/// The 64K table of the same file, and the shadow inside the linear map of later eras.
#[test]
fn other_pages_and_the_later_shadow_are_documented_too() {
    let args = ["--kasan", "generic", "--page-size", "64K", "--va-bits", "52"];
    check(
        &[&["--era", "5.10"][..], &args].concat(),
        &[
            ("kasan shadow region", "fffda00000000000", "ffff9fffffffffff"),
            ("modules", "ffffa00008000000", "ffffa0000fffffff"),
            ("vmalloc", "ffffa00010000000", "fffff81ffffeffff"),
            ("vmemmap", "fffffc1fffe00000", "ffffffffffdfffff"),
        ],
    );
    let text = kernmem(&["layout", "--era", "6.1", "--kasan", "generic"]).good();
    assert!(text.contains(" [ffff600000000000\tffff7fffffffffff]\t  32TB\t\t[kasan shadow region]\n"), "{text}");
}

/// Sizes of the same file in 6.1 (4K pages, 48 bits) and in later branches (64K, 52 bits): in those kernels they are
/// rounded, and the shadow lies inside the linear map.
#[test]
fn sizes_are_those_of_the_documentation() {
    let sizes = |args: &[&str], wanted: &[(&str, &str)]| {
        let text = kernmem(&[&["layout", "--kasan", "generic"], args].concat()).good();
        for (start, size) in wanted {
            let row = rows(&text).into_iter().find(|row| row.trim_start_matches('[').starts_with(start));
            let cell = row.and_then(|row| row.split('\t').nth(2)).unwrap_or_else(|| panic!("{start} in {text}"));
            assert_eq!(cell.trim(), *size, "{start}");
        }
    };
    sizes(
        &["--era", "6.1"],
        &[
            ("ffff000000000000", "128TB"),
            ("ffff600000000000", "32TB"),
            ("ffff800008000000", "124TB"),
            ("fffffbfff0000000", "224MB"),
            ("fffffbfffe000000", "8MB"),
            ("fffffc0000000000", "2TB"),
            ("fffffe0000000000", "2TB"),
        ],
    );
    sizes(
        &["--era", "6.1", "--page-size", "64K", "--va-bits", "52"],
        &[
            ("0000000000000000", "4PB"),
            ("fff0000000000000", "~4PB"),
            ("fffd800000000000", "512TB"),
            ("fffffc0000000000", "~4TB"),
            ("ffffffe000000000", "128GB"),
        ],
    );
    sizes(
        &["--era", "5.10", "--page-size", "64K", "--va-bits", "52"],
        &[
            ("fff0000000000000", "2PB"),
            ("fff8000000000000", "1440TB"),
            ("fffff81fffff0000", "~3TB"),
            ("fffffc1ffe590000", "4544KB"),
            ("fffffc1fffe00000", "3968GB"),
        ],
    );
}

/// Facts, "i386 virtual layout", the example of 8 CPUs with high memory, in the form of a boot log. By hand: CPU entry
/// areas take a page and 8 times 0x2b000 bytes.
#[test]
fn the_layout_of_i386_is_what_its_kernels_told_at_boot() {
    let config = crate::common::file(
        "i386-layout.config",
        b"CONFIG_X86_32=y\nCONFIG_HIGHMEM=y\nCONFIG_NR_CPUS=8\nCONFIG_X86_LOCAL_APIC=y\nCONFIG_X86_IO_APIC=y\n\
          CONFIG_PCI_MMCONFIG=y\n",
    );
    let text = kernmem(&["layout", "--arch", "i386", "--kconfig", &config]).good();
    let expected = [
        "     fixmap : 0xfff3a000 - 0xfffff000   ( 788 kB)",
        "  cpu_entry : 0xff800000 - 0xff959000   (1380 kB)",
        "        ldt : 0xff400000 - 0xff800000   (4096 kB)",
        "      pkmap : 0xff000000 - 0xff400000   (4096 kB)",
        "    vmalloc : 0xf77fe000 - 0xfeffe000   ( 120 MB)",
        "     lowmem : 0xc0000000 - 0xf6ffe000   ( 879 MB)",
        "       user : 0x00000000 - 0xc0000000   (3072 MB)",
    ];
    assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), expected);
    let pae = kernmem(&["layout", "--arch", "i386", "--kconfig", &config, "--levels", "3"]).good();
    for line in
        ["cpu_entry : 0xffa00000", "ldt : 0xff800000", "pkmap : 0xff600000", "vmalloc : 0xf7dfe000 - 0xff5fe000"]
    {
        assert!(pae.contains(line), "{line} in\n{pae}");
    }
}

#[test]
fn all_eras_stand_side_by_side() {
    let text = kernmem(&["layout", "--era", "all"]).good();
    let line = text.lines().find(|line| line.trim_start().starts_with("vmemmap")).unwrap();
    let starts: Vec<&str> = line.split_whitespace().filter(|word| word.len() == 16).collect();
    let expected = ["ffff7e0000000000", "fffffdffffe00000", "fffffc0000000000", "fffffdffc0000000", "fffffdffc0000000"];
    assert_eq!(starts, expected);
    let answer = json(&["layout", "--era", "all", "--json"], "kernmem.layout");
    assert_eq!(answer["layouts"].as_array().map(Vec::len), Some(5));
}

/// Start, offset, last address and size of each row.
fn x86_rows(text: &str) -> Vec<[String; 4]> {
    text.lines()
        .filter(|line| line.starts_with([' ']) && line.matches('|').count() == 4)
        .map(|line| {
            let mut cells = line.split('|').map(|cell| cell.split_whitespace().collect::<Vec<_>>().join(" "));
            [(); 4].map(|()| cells.next().unwrap())
        })
        .collect()
}

#[track_caller]
fn check_x86(text: &str, expected: &[[&str; 4]]) {
    let found = x86_rows(text);
    for row in expected {
        assert!(found.iter().any(|own| own == row), "{row:?} is not in\n{text}");
    }
}

/// Rows of Documentation/x86/x86_64/mm.rst from the end of the shadow on, the same with four and five levels.
const COMMON: [[&str; 4]; 10] = [
    ["fffffc0000000000", "-4 TB", "fffffdffffffffff", "2 TB"],
    ["fffffe0000000000", "-2 TB", "fffffe7fffffffff", "0.5 TB"],
    ["fffffe8000000000", "-1.5 TB", "fffffeffffffffff", "0.5 TB"],
    ["ffffff0000000000", "-1 TB", "ffffff7fffffffff", "0.5 TB"],
    ["ffffff8000000000", "-512 GB", "ffffffeeffffffff", "444 GB"],
    ["ffffffef00000000", "-68 GB", "fffffffeffffffff", "64 GB"],
    ["ffffffff00000000", "-4 GB", "ffffffff7fffffff", "2 GB"],
    ["ffffffff80000000", "-2 GB", "ffffffff9fffffff", "512 MB"],
    ["ffffffffff600000", "-10 MB", "ffffffffff600fff", "4 kB"],
    // The documentation counts this one in megabytes on both sides.
    ["ffffffffa0000000", "-1.5 GB", "fffffffffeffffff", "1520 MB"],
];

/// Rows of the same file, four levels: start, offset, last, size.
#[test]
fn the_x86_layout_is_the_documentations_table() {
    let config = crate::common::file("x86-unmoved.config", b"CONFIG_X86_64=y\nCONFIG_KASAN=y\n");
    let text = kernmem(&["layout", "--arch", "x86-64", "--kconfig", &config]).good();
    check_x86(&text, &COMMON);
    let expected = [
        ["0000000000000000", "0", "00007fffffffffff", "128 TB"],
        ["0000800000000000", "+128 TB", "ffff7fffffffffff", "~16M TB"],
        ["ffff800000000000", "-128 TB", "ffff87ffffffffff", "8 TB"],
        ["ffff880000000000", "-120 TB", "ffff887fffffffff", "0.5 TB"],
        ["ffff888000000000", "-119.5 TB", "ffffc87fffffffff", "64 TB"],
        ["ffffc88000000000", "-55.5 TB", "ffffc8ffffffffff", "0.5 TB"],
        ["ffffc90000000000", "-55 TB", "ffffe8ffffffffff", "32 TB"],
        ["ffffe90000000000", "-23 TB", "ffffe9ffffffffff", "1 TB"],
        ["ffffea0000000000", "-22 TB", "ffffeaffffffffff", "1 TB"],
        ["ffffeb0000000000", "-21 TB", "ffffebffffffffff", "1 TB"],
        ["ffffec0000000000", "-20 TB", "fffffbffffffffff", "16 TB"],
    ];
    check_x86(&text, &expected);
}

/// The same with five levels. The documentation lets the shadow begin with its root slot; the headers say 0xffdffc...
#[test]
fn the_x86_layout_of_five_levels_is_the_documentations_table() {
    let config = crate::common::file("x86-unmoved-5.config", b"CONFIG_X86_64=y\nCONFIG_KASAN=y\nCONFIG_X86_5LEVEL=y\n");
    for args in [["--levels", "5"], ["--va-bits", "57"]] {
        let text = kernmem(&[&["layout", "--arch", "x86-64", "--kconfig", &config][..], &args].concat()).good();
        check_x86(&text, &COMMON);
        let expected = [
            ["0000000000000000", "0", "00ffffffffffffff", "64 PB"],
            ["0100000000000000", "+64 PB", "feffffffffffffff", "~16K PB"],
            ["ff00000000000000", "-64 PB", "ff0fffffffffffff", "4 PB"],
            ["ff10000000000000", "-60 PB", "ff10ffffffffffff", "0.25 PB"],
            ["ff11000000000000", "-59.75 PB", "ff90ffffffffffff", "32 PB"],
            ["ff91000000000000", "-27.75 PB", "ff9fffffffffffff", "3.75 PB"],
            ["ffa0000000000000", "-24 PB", "ffd1ffffffffffff", "12.5 PB"],
            ["ffd2000000000000", "-11.5 PB", "ffd3ffffffffffff", "0.5 PB"],
            ["ffd4000000000000", "-11 PB", "ffd5ffffffffffff", "0.5 PB"],
        ];
        check_x86(&text, &expected);
    }
}
