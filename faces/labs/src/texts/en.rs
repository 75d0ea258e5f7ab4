//! The texts in English.

use super::Text;

/// The sentence of `key`; `{name}` stands for the number of that name.
#[must_use]
pub const fn text(key: Text) -> &'static str {
    match key {
        Text::Unverified => "(UNVERIFIED)",
        Text::LinearMapTitle => "what the linear map of arm64 is made of, and what that means",
        Text::LinearMapReverse => "rodata=off; reversed rodata=full",
        Text::CommandLine => "command line: {line}",
        Text::GrainClaim => {
            "\"With full protection off, the first of 4 GiB is mapped by 2M and 4K, the other three by \
             1G.\""
        }
        Text::GrainOfImage => {
            "the gigabyte with the image's alias: {image_1g} in 1G, {image_2m} in 2M, {image_4k} in 4K \
             leaves"
        }
        Text::GrainOfOthers => "the other memory: {others_1g} in 1G, {others_2m} in 2M, {others_4k} in 4K leaves",
        Text::TablePages => "paging_init took {table_pages} pages for tables",
        Text::WholeGibibytes => "memory begins and ends at whole gigabytes: the rest at an end takes smaller leaves",
        Text::AllByPages => {
            "every leaf of the linear map is a page: full protection wants to change the rights of each \
             page alone"
        }
        Text::DefaultClaim => "\"Full protection is the default; then all of the linear map is mapped by 4K.\"",
        Text::DefaultGrain => "without rodata=: {pages} in pages, {blocks} in larger leaves",
        Text::SmallImage => "the image is small: its alias, text and read-only data, may hold 2M blocks in any mode",
        Text::DefaultIsNotFull => "this kernel was built without full protection as its default",
        Text::NoFullProtection => "there is no full protection yet",
        Text::NoBbml2 => "the boot CPU cannot change block sizes in place (BBML2 without aborts)",
        Text::Rodata0Claim => "\"rodata=0 turns full protection off.\"",
        Text::Rodata0Booted => "booted with rodata=0: {with} pages for tables; without it: {without}",
        Text::Rodata0Rule => "{era}: protection {rodata}, linear map by pages {by_pages}, warnings {warnings}",
        Text::Rodata0IsInvalid => "0 is no value of rodata= any more: a warning, and protection stays {rodata}",
        Text::NoAllocationClaim => {
            "\"A mapping by 2M or 1G is no allocation: the memory behind it is still given away by \
             pages.\""
        }
        Text::OnePage => "one free page, at {page}, mapped at {page_va} by a leaf of {leaf}",
        Text::FreeInBlock => {
            "behind that leaf: {free_pages} of {block_pages} pages are free, in {chunks} blocks of the \
             page allocator, the smallest of order {smallest_order}"
        }
        Text::LeavesAreBlocks => "the leaf is larger than a page: here it is not, so this run shows nothing",
        Text::NothingFree => "nothing behind the leaf is free",
        Text::FlipTitle => "the halves of the kernel's addresses on arm64, before and after the flip",
        Text::FlipReverse => "a kernel with generic KASAN; reversed one without",
        Text::FlippedClaim => {
            "\"Up to 5.0 the linear map is the upper half of the kernel's addresses, then the lower.\""
        }
        Text::LinearLies => "{era}: linear map {linear_start} to {linear_last}, image linked at {image}",
        Text::MappedInHalves => "booted: {mapped_lower} mapped in the lower half, {mapped_upper} in the upper",
        Text::NotBooted => "this era is told by its rules alone: its kernels do not boot here",
        Text::OtherHalf => "the linear map lies in the other half",
        Text::TableClaim => "\"The layout of 5.15 with 4K pages and 48 bits\": thirteen rows",
        Text::TableHead => "5.10's formulas beside the document (= equal, ! not):",
        Text::RowEqual => "= {name} {start} {last}",
        Text::RowDiffers => "! {name} {start} {last}   ours {our_start} {our_last}",
        Text::RowsEqual => "{era}: {rows_equal} of {rows} rows are equal",
        Text::WithKasan => {
            "the kernel is built with generic KASAN (without it everything between shadow and vmalloc \
             lies 32T lower)"
        }
        Text::OtherBuild => "this build differs: the document's kernel has generic KASAN, 4K pages and 48 bits",
        Text::OtherLayout => "this era has other formulas",
        Text::VmallocClaim => "\"Elsewhere vmalloc starts at ffffa00000000000; on my kernel at ffff800010000000.\"",
        Text::VmallocStarts => {
            "{era}: vmalloc starts at {vmalloc_off} without KASAN, at {vmalloc_on} with; behind the \
             shadow comes {behind_shadow}"
        }
        Text::BothAreRight => {
            "each is read for its own kernel: {vmalloc_off} without KASAN; with it the regions behind the \
             shadow start at {behind_shadow} (the BPF region; vmalloc itself at {vmalloc_on})"
        }
        Text::TtbrTitle => "which root table arm64 looks an address up in, and whose it is",
        Text::TtbrReverse => "the top byte of user addresses is ignored, as Linux sets it; reversed it is compared",
        Text::SharedClaim => "\"All processes share the kernel's tables: TTBR1 never changes and is swapper_pg_dir.\"",
        Text::Ttbr1Is => "the kernel's root is {ttbr1}; swapper_pg_dir lies at {swapper_pg_dir}",
        Text::Trampoline => "the root of the entry trampoline, tramp_pg_dir, lies {tramp_below} below it",
        Text::Isolation => "user and kernel tables are apart on this machine: {isolates}",
        Text::WithoutAsid => {
            "the table's address alone is meant: bits 63:48 of TTBR1 hold the ASID of the running process"
        }
        Text::InTheKernel => {
            "the CPU is in the kernel, and the ASID in bits 63:48 is left aside: user mode runs with \
             tramp_pg_dir"
        }
        Text::AnotherRoot => "another table is the root",
        Text::OwnClaim => "\"TTBR0 is each process's own.\"",
        Text::TwoProcesses => {
            "{user} is looked up from {ttbr0_a} and reaches {page_a}; from {ttbr0_b} it reaches {page_b}"
        }
        Text::ProcessCost => {
            "both processes together have {user_tables} tables; none of their {root_slots} root slots \
             maps the kernel"
        }
        Text::SamePage => "both processes see the same page",
        Text::Bit63Claim => "\"Bit 63 of an address chooses: 1 is TTBR1, 0 is TTBR0.\"",
        Text::Tbi => "top byte ignored: user addresses {tbi0}, kernel addresses {tbi1}",
        Text::TagsOfUser => {
            "a user address with each of 256 top bytes: {user_accepted} are looked up, bit 63 is wrong \
             about {user_misjudged}, {user_faults} fault"
        }
        Text::TagsOfKernel => {
            "a kernel address: {kernel_accepted} are looked up, bit 63 is wrong about {kernel_misjudged}, \
             {kernel_faults} fault"
        }
        Text::TagsWithKasan => {
            "a kernel address in a kernel with tagging KASAN: {tagging_accepted} are looked up, bit 63 is \
             wrong about {tagging_misjudged}, {tagging_faults} fault"
        }
        Text::TaggedWalk => "tables know no tag: {plain} reaches {plain_pa}, {tagged} reaches {tagged_pa}",
        Text::NoTags => {
            "the top byte is no tag: bit 55 chooses, and bits 63:56 must equal it only where they are \
             compared"
        }
        Text::WalkTitle => "how many memory references reach a datum",
        Text::WalkReverse => {
            "arm64: rodata=off, reversed rodata=full; x86-64: 1G leaves where the CPU has them, reversed \
             nogbpages"
        }
        Text::FiveClaim => "\"Four reads go through four levels of tables, the fifth gets the datum.\"",
        Text::WalkOf => "{va}, in a leaf of {leaf}:",
        Text::WalkStep => "  {level} table {table} entry {index}: {raw}",
        Text::WalkEnd => "  datum at {pa}: {reads} reads",
        Text::Levels => "{levels} levels; the longest walk took {most} reads with the datum",
        Text::TheLeafIsAPage => {
            "the leaf is a page and the TLB does not know it: a 2M block takes one read less, a 1G block \
             two"
        }
        Text::BootTablesTitle => "the first tables of arm64",
        Text::BootTablesReverse => "the image runs where it is linked; reversed it is moved by a seed",
        Text::IdentityClaim => "\"The identity map maps idmap_text where virtual and physical address are equal.\"",
        Text::FirstIdentity => {
            "the first: {identical} with equal addresses in {blocks} blocks of 2M, {tables} tables; \
             the image has {image_bytes} at {image_phys}"
        }
        Text::DevicetreeWindow => "beside it a window onto the devicetree, with unequal addresses: {moved}",
        Text::LastIdentity => {
            "the one that stays: {stays_identical} in {stays_pages} pages; idmap_text has {idmap_text}"
        }
        Text::TheOneThatStays => {
            "the identity map that stays is meant: the first one covers the whole image (until 5.10 it \
             held idmap_text alone)"
        }
        Text::NotIdentical => "idmap_text is not mapped at its own address",
        Text::ImageMapClaim => "\"The image map maps the whole image at the addresses where it runs.\"",
        Text::FirstKernelMap => {
            "{image_phys} runs at {image_virt}, moved by {displacement}: {mapped} in {blocks} blocks of \
             2M and {tables} tables"
        }
        Text::NotTheImage => "the first kernel map holds something else",
        Text::SparsememTitle => "sections, their descriptors, and holes",
        Text::SparsememReverse => "a machine with a hole; reversed the hole is filled with memory",
        Text::CountClaim => "\"x86-64 with four levels: 2^(46-27) = 2^19 sections.\"",
        Text::Counts => {
            "{era}: {sections} sections of {section_bytes}; with five levels {sections_five}; arm64 \
             {sections_arm64} of {section_bytes_arm64}"
        }
        Text::FourLevels => "four levels of tables are in use",
        Text::OtherCount => "the sections are another size",
        Text::ArrayClaim => "\"mem_section is a two-dimensional array; its second dimension fills a page.\"",
        Text::Roots => {
            "{era}: a root of {per_root} descriptors has {root_bytes}; {roots} roots; 4 GiB take \
             {pointers_bytes} of pointers and {roots_in_use} root, a static array {static_bytes}"
        }
        Text::RootsOnDemand => {
            "pointers to rows are meant: the first dimension is made at boot and a row when its first \
             section appears (i386 alone has a static array, with rows of one)"
        }
        Text::HolesClaim => "\"A hole costs no page descriptors; it must be at least 128M and aligned.\"",
        Text::HolesOfMachine => {
            "{memory} of memory in {span}: a flat array {flat}, by sections {sparse} ({sections} \
             sections; {sections_booted} after boot); roots and usage maps {other_cost}"
        }
        Text::HolesBySize => {
            "{era}, sections of {section_bytes}: a hole saves 100M {hole_100m}, 128M {hole_128m}, 128M \
             not aligned {hole_128m_shifted}, 1G {hole_1g}"
        }
        Text::WholeSections => "the hole holds whole, aligned sections of {section_bytes}",
        Text::LargerSections => "sections have {section_bytes}: a hole must hold a whole one",
        Text::CodedClaim => "\"section_mem_map is the address of the section's descriptors less start_pfn.\"",
        Text::CodedWord => {
            "section {section}: word {word} = descriptors at {mem_map} less {start_pfn} descriptors = \
             {coded}, flags {flags}"
        }
        Text::CodedAll => "{equal} of {total} sections are coded so; the tables map the descriptors of {mapped}",
        Text::BesideFlags => "the flags in the low bits are masked away; start_pfn counts descriptors, not bytes",
        Text::NotCoded => "a section's word says something else",
        Text::MemoryModelsTitle => "what it costs to find a page descriptor, in each memory model",
        Text::MemoryModelsReverse => "memory where the machine has it; reversed, its second half as far up as 512 GiB",
        Text::SlowerClaim => {
            "\"With sections, pfn_to_page is slower than with a flat array; a vmemmap makes up for it.\""
        }
        Text::ModelLoads => {
            "{model}: loads that wait for each other: {loads} for pfn_to_page, {back} for page_to_pfn; variables \
             of the kernel: {variables}; {agree} of {sections} sections as the arithmetic says"
        }
        Text::HiddenWalk => {
            "where a TLB knows nothing, the MMU reads {vmemmap_walk} entries for a descriptor in the \
             vmemmap (leaves of {vmemmap_leaf}), {linear_walk} in the linear map ({linear_leaf})"
        }
        Text::MeasuredRatios => {
            "{reach}, {way}: flat {flat_ns} ns; by the flat one's time static {static_ratio}, extreme \
             {extreme_ratio}, vmemmap {vmemmap_ratio}"
        }
        Text::MeasuredHere => "measured on this host in one run; another run gives other numbers",
        Text::ClassicModel => {
            "the classic model is meant, {extreme_loads} loads in place of {flat_loads}, and {extreme_back} \
             back; with the vmemmap that this kernel has unless told otherwise: {vmemmap_loads}"
        }
        Text::ArrayOfSections => {
            "sections are chosen: {static_loads} load in place of {flat_loads}, and {static_back} back; \
             there is no vmemmap here, and a flat array unless told otherwise"
        }
        Text::OnlyVmemmap => {
            "this kernel has a vmemmap and no other model: {vmemmap_loads} loads as with a flat array, so \
             nothing is slower"
        }
        Text::SpaceClaim => "\"A vmemmap buys time with space: its tables say where page descriptors are.\"",
        Text::ModelSpends => "{model}: {memmap} of page descriptors, {tables} of tables, {usage} of usage maps",
        Text::LittleSpace => {
            "{more} more than with roots alone are called space: page tables and subsections; roots and \
             words stay, since pfn_valid asks them"
        }
        Text::NothingMore => "a vmemmap takes no more memory than roots alone",
        Text::NoVmemmap => "this architecture has no vmemmap",
        Text::VmemmapTitle => "how large a virtual memory map is, and what one costs",
        Text::VmemmapReverse => "descriptors of 64 bytes; reversed, computed with 128",
        Text::OneTebibyteClaim => "\"64T of memory need 1T of vmemmap: ffffea0000000000 to ffffeaffffffffff.\"",
        Text::Computed => {
            "{era}: {physical} of memory, {page_bytes} a page: {vmemmap_bytes}, {vmemmap_start} to \
             {vmemmap_last}; room {room}; with five levels {five_levels}"
        }
        Text::Larger => "{page_bytes} a page need {vmemmap_bytes} of the {room} up to KASAN's shadow",
        Text::ByBlocksClaim => "\"With 4K pages the vmemmap is mapped by 2M.\"",
        Text::RealMachine => "booted with {memory}: {sections} sections of {section_bytes}, {memmap} of descriptors",
        Text::RealMap => {
            "mapped {map_start} to {map_last}: {map_blocks} in 2M blocks, {map_pages} in pages, \
             {map_tables} tables"
        }
        Text::HostMemory => "the host holds {host} of it all",
        Text::MapOfPages => "a part of it is mapped by pages",
        Text::BlockTitle => "what one leaf of the linear map maps is given away in parts, and no table is touched",
        Text::BlockReverse => {
            "arm64: rodata=off, reversed rodata=full; x86-64: 1G leaves where the CPU has them, reversed \
             nogbpages"
        }
        Text::BlockClaim => {
            "\"What kmalloc gives is mapped already, even by a leaf of 1G, and kmalloc, vmalloc, malloc and 2M \
             huge pages take from behind one such leaf.\""
        }
        Text::BlockObjects => {
            "kmalloc: {objects} objects of {object_bytes} bytes in {object_pages} pages; entries of the \
             kernel's tables that changed: {kmalloc_changed}"
        }
        Text::BlockArea => {
            "for comparison, vmalloc of {area_pages} pages: {vmalloc_leaves} leaves written, {vmalloc_tables} \
             entries for tables"
        }
        Text::BlockGiven => {
            "{by} {bytes}: datum at {pa}, its owner's address {own}, linear map {linear}, leaf of {leaf_bytes} \
             at {leaf_at}"
        }
        Text::BlockLeaf => {
            "{kinds} of {given} lie behind the one leaf of {leaf} at {at}; the entry was {raw_before} at boot \
             and is {raw_after} now"
        }
        Text::BlockBothWays => "written by the owner's address, read through the linear map: {agree} of {given} agree",
        Text::BlockUnchanged => "entries of the linear map that changed since boot: {linear_changed}",
        Text::BlockChanged => "{linear_changed} entries of the linear map were changed",
        Text::BlockLeavesArePages => {
            "the leaves are blocks: here each page has a leaf of its own, and still kmalloc changes no entry"
        }
        Text::BlockLeafIsSmall => {
            "the leaf has 1G: a huge page of 2M fills a leaf of {leaf}, and {kinds} of {given} share one; still \
             kmalloc changes no entry"
        }
        Text::BlockOtherLeaves => {
            "they meet behind one leaf: here {kinds} of {given} do, for there are several of {leaf}; still kmalloc \
             changes no entry"
        }
        Text::HvoTitle => "the descriptors of a huge page, given back (HVO)",
        Text::HvoReverse => "hugetlb_free_vmemmap=on, on arm64 as an option that Linux lacks; reversed off",
        Text::HvoClaim => {
            "\"For a huge page the memory of the descriptors behind the first ones can be freed, once the 2M \
             leaf that maps them is split into pages.\""
        }
        Text::HvoByLinux => "descriptors are given back as Linux does it on this kernel",
        Text::HvoByUs => {
            "Linux cannot do this here; it is done as an option of ours, by break-before-make while nobody uses \
             the descriptors"
        }
        Text::HvoSwitchedOff => "descriptors are not given back",
        Text::HvoBefore => {
            "a huge page of 2M at {huge}: its descriptors are the {start_pages} pages from {start}; the leaf \
             there had {leaf_before}, and has {leaf_after} once the page is in the pool"
        }
        Text::HvoPage => "  {va} maps {plain}; in the pool {pooled}; after it {emptied}",
        Text::HvoGave => {
            "given back: {given_back} of {map_pages} pages; tables that the split took: {tables}; more free \
             frames: {free_more}; more managed frames: {managed_more}; the host holds {host_after} instead of \
             {host_before}"
        }
        Text::HvoAliases => "pages of descriptors that refuse a write: {refused} ({refusal})",
        Text::HvoEmptied => {
            "the pool is emptied: {frames_again} pages have frames of their own again, the leaf has \
             {leaf_again}, tables that stay: {tables_left}"
        }
        Text::HvoGigantic => {
            "a huge page of 1G: {given_back_1g} of {map_pages_1g} pages given back, {tables_1g} tables taken, \
             {refused_1g} refuse a write; {frames_again_1g} frames again once the pool is empty"
        }
        Text::HvoNoGigantic => "there is no pool of 1G pages",
        Text::HvoNoGigabyte => "no gigabyte of memory is free in one piece for a huge page of 1G",
        Text::HvoRule => "{era}, by its rules: {given_back} pages for a huge page of 2M, {given_back_1g} for one of 1G",
        Text::HvoNotByLinux => {
            "Linux has no HVO on arm64: a live entry may not change what it maps without a moment in which it \
             maps nothing; with that moment {given_back} of {map_pages} pages came back"
        }
        Text::HvoOff => "it is switched off: the leaf keeps its {leaf_after}, and all {map_pages} pages stay",
        Text::HvoRefused => "the descriptors could not be shared: {given_back} of {map_pages} pages came back",
        Text::HvoAbsent => "no kernel of this branch gives descriptors back on this architecture",
        Text::VmallocTitle => "vmalloc's calls one by one; neighbours in addresses may be strangers in memory",
        Text::VmallocReverse => "single pages; reversed one block of 2M (vmalloc_huge)",
        Text::ChainClaim => {
            "\"vmalloc finds addresses, then takes pages into an array, then maps them in a loop of \
             vmap_range_noflush.\""
        }
        Text::ChainCall => "{call}",
        Text::ChainCalls => "{calls} calls, of these {loops} of vmap_range_noflush",
        Text::ChainPage => "  {own} is frame {pfn}, linear map {linear}",
        Text::ChainFrames => {
            "{pages} pages in leaves of {leaf}: {neighbours} of {pairs} pairs are neighbours in memory; written \
             here and read through the linear map: {agree} agree"
        }
        Text::ChainGuard => "the area has {area_bytes}; a read at {guard}, behind its pages: {guard_read}",
        Text::ChainFreed => {
            "vfree: flushes {free_flushes}, pages of addresses that wait {lazy_pages}; a read there, which a TLB may \
             still answer: {freed_read}; purge: flushes {purge_flushes}; a read then: {purged_read}"
        }
        Text::ChainNested => {
            "{many_pages} pages need {array_bytes} bytes of pointers, more than a page: they get an area of \
             their own (calls of __vmalloc_node: {nodes}), whose pointers kmalloc_node gives (calls: {kmallocs})"
        }
        Text::OtherChain => "the calls are others",
        Text::LoopOfBlocks => {
            "the area is made of blocks: the loop goes over blocks, and single pages are written to the last \
             level without it"
        }
        Text::TlbTitle => "what a TLB saves, and what larger leaves save beyond it",
        Text::TlbReverse => {
            "arm64: rodata=off, reversed rodata=full; x86-64: 1G leaves where the CPU has them, reversed \
             nogbpages"
        }
        Text::ReachClaim => {
            "\"Mapped by 2M or 1G, the linear map misses the TLB less often; a gigabyte takes one entry.\""
        }
        Text::TourPlan => "a TLB of {entries} entries; each tour reads a word every {step} of {work}, twice",
        Text::TourOfLinear => {
            "the linear map ({line}): walks {linear_first}, then {linear_again}; TLB entries {linear_held} for \
             {linear_reach}"
        }
        Text::TourBy => {
            "such memory by leaves of {leaf}: walks {first} (entries read {entries}), then {again}; TLB entries \
             {held} for {reach}"
        }
        Text::SmallTour => "  only {small} of it, a page for each entry: walks {small_first}, then {small_again}",
        Text::BothCount => "reads of tables and data: the CPUs counted {by_cpus}, the memory {by_memory}",
        Text::MoreThanReach => {
            "more is in use than the TLB holds by pages ({reach_4k} in {entries} entries): less than that is \
             walked to once, by leaves of any size"
        }
        Text::LinearByPages => "this linear map is mapped by pages and misses as often as any other map by pages",
        Text::HitClaim => {
            "\"The TLB keeps translations, so that tables are not read again; when a table changes it must be \
             flushed.\""
        }
        Text::HitOfPage => "{va}, in a page: {first} reads, then {again}; after a flush {flushed}",
        Text::HitOfLinear => "{linear}, the same memory in the linear map: {linear_first} reads, then {linear_again}",
        Text::WalkCache => {
            "a CPU that remembers {pointers} tables, too, misses in the page beside it with {beside} reads"
        }
        Text::StaleHit => {
            "unmapped, flushes {flushes}: the TLB still translates it, reads {stale}; it sees what was written \
             since: {seen}"
        }
        Text::PurgedHit => "purged, flushes {purges}: reads {faulting}, all of tables; a fault: {faults}",
        Text::WalkedAgain => "a second read walked again, or the first did not read every level",
        Text::ToZonesTitle => "how the boot allocator's memory becomes nodes, zones and free pages",
        Text::ToZonesReverse => "nodes as firmware tells them; reversed numa=off",
        Text::StepsClaim => {
            "\"Memory is set up in four steps: it enters the system, memblock manages it, tables map it, \
             zones are made.\""
        }
        Text::StepMemblock => "1, 2 memblock: {memory}, regions {regions}; changes of its lists so far: {before}",
        Text::StepTables => "3 tables: {tables} of memblock's pages, {image_tables} inside the kernel image",
        Text::StepZones => {
            "4 zones: limits that hold {present} of memory, and no page yet; changes of memblock's lists \
             meanwhile: {between}"
        }
        Text::ZoneLimit => "    {zone} from {start}, {bytes}",
        Text::StepHandOver => {
            "5 hand-over: {given} become pages of zones; changes of memblock's lists after it: {after}"
        }
        Text::PagesAtHandOver => {
            "a fifth step is added: zones get limits in the fourth and pages at the hand-over, and between \
             the two memblock goes on serving ({between} changes)"
        }
        Text::ZonesDiffer => "zones hold {present} of memory, memblock {memory}",
        Text::NodesClaim => {
            "\"With NUMA memory is divided into nodes, and each CPU has a local one; without, all of it is \
             one node.\""
        }
        Text::NodeRow => "node {nid}: {bytes} in zones {zones}; its requests look at nodes {order}",
        Text::NodesInAll => "nodes: {nodes}, with {of_nodes} in all",
        Text::CpuRow => "CPU {cpu} of node {own} asks for a page and gets {pa} of node {from}",
        Text::LocalPages => "{local} of {cpus} CPUs got a page of their own node",
        Text::NotLocal => "memory has no node, or a CPU got a page of another node",
        Text::ManagedClaim => "\"The page allocator manages all physical memory.\"",
        Text::LeftFree => {
            "of {memory} memblock left {free} free; {reserved} stay taken. Who asked for 1M or more before:"
        }
        Text::TakerRow => "    {taker}: {bytes}",
        Text::ZoneRow => {
            "node {nid} {zone}: pages {present}, managed at the hand-over {handed}, at the end of boot \
             {at_end}"
        }
        Text::ManagedNow => {
            "handed over {handed_over} and later {late}: managed {managed}; free now {now}, in use {used}"
        }
        Text::WhatIsLeft => {
            "what memblock left is meant: {reserved} of {memory} never come to it or only when boot is over \
             ({late} pages), though they have descriptors"
        }
        Text::DoesNotAddUp => "zones, memblock and the page allocator count different pages",
        Text::FallbackTitle => "from where a request is served when its zone is used up",
        Text::FallbackReverse => "with watermarks and reserves as boot computes them; reversed without any",
        Text::FallbackClaim => {
            "\"A request that its zone cannot serve goes down: HIGHMEM, NORMAL, DMA; one for DMA goes nowhere \
             else.\""
        }
        Text::FallbackPlan => {
            "{managed} pages managed; CPU 0 repeats each request (pages {block}) until nothing is given"
        }
        Text::WishRow => "{wish} ({gfp}):",
        Text::SourceRow => {
            "  node {nid} {zone}: managed {managed}, in use {used}, got {got}, stay {left} (min {min}, reserve \
             {reserve})"
        }
        Text::UrgentRow => "  then a request that is urgent and cannot wait, below the watermarks: got {urgent} more",
        Text::AboveTheMarks => {
            "a zone gives what it has above its min watermark and its reserve from higher requests; with 64 \
             bits there is no HighMem, DMA32 stands between Normal and DMA, and after the own node come the \
             others"
        }
        Text::OtherOrder => "zones served in another order",
        Text::PagedocTitle => "which descriptor a frame has, and where descriptors live",
        Text::PagedocReverse => "descriptors stay where boot put them; reversed huge pages give theirs back",
        Text::PageOfPfnClaim => {
            "\"pfn is the address shifted by PAGE_SHIFT; the struct page of pfn is at vmemmap + pfn.\""
        }
        Text::PageBase => {
            "descriptors of {page_bytes}; that of frame 0 would be at {base}, the region begins at {start}"
        }
        Text::PageRow => "{pa}: frame {pfn}, descriptor at {page}; the CPU reads flags {flags}: node {node}, {zone}",
        Text::PagesAgree => "{agree} of {frames} frames: address, way back, node and zone agree",
        Text::PagesOfHoles => "sections without memory between the others: {holes}; descriptors not mapped: {unmapped}",
        Text::BaseIsShifted => {
            "vmemmap is the variable and not the region's start: {base}, the start less the descriptors below \
             the linear map's first frame; and sections without memory have none"
        }
        Text::PagesDiffer => "a descriptor is somewhere else, or names another zone",
        Text::HomeClaim => {
            "\"A section's page descriptors are allocated at boot, before zones are made; a section is cut \
             into subsections of 2M.\""
        }
        Text::HomeOfSections => {
            "{sections} sections with {map_bytes} of descriptors; {of_boot} in memory that memblock gave for \
             them and never gave back"
        }
        Text::HomeOfFirst => {
            "frame {first_pfn}: its descriptor {first_page} lies at {home}; the descriptor of that memory \
             says reserved: {is_reserved}"
        }
        Text::Subsections => "subsections of {subsection}, {each} a section; in use {in_use}",
        Text::BootOrder => "sections ready, zones, hand-over, in this order: {ordered}",
        Text::SharedHome => {
            "{huge_pages} huge pages more; the {descriptor_pages} pages of descriptors of frame {huge_pfn} \
             lie in {homes} page of memory; free pages fell by {spent}"
        }
        Text::UnlessGivenBack => {
            "no huge page has given the memory of its descriptors back: here {descriptor_pages} pages of \
             descriptors lie in {homes}"
        }
        Text::NotOfBoot => "descriptors lie elsewhere, or zones came first",
        Text::VmallocSyncI386Title => "how processes of i386 come to see a new area of vmalloc",
        Text::VmallocSyncI386Reverse => {
            "each area lies below a PMD entry of its own; reversed all lie below one that is older than the processes"
        }
        Text::BackToTheListClaim => {
            "\"x86-32 went back to the old way: tables are synchronised after each change, by the list of all \
             top-level tables, unless processes share the kernel's PMD tables.\""
        }
        Text::I386Setup => {
            "PAE {pae}, tables of user mode apart {pti}; {old} processes, {areas} areas, {young} more processes; a \
             tenth of the old ones and all young ones read each area ({reads} reads)"
        }
        Text::I386AtMapping => {
            "by who maps (from 5.8 on): {walks} walks over pgd_list visit {visited} roots and copy {copied} PMD \
             entries; {lost} reads fault for good"
        }
        Text::I386OnFault => {
            "on fault alone (up to 5.7): {faults} faults copy {fault_copied} entries, {fault_lost} reads fault for \
             good; without either way {none_lost} do"
        }
        Text::I386Shared => {
            "with PMD tables that all share: {listed} roots on the list, {shared_walks} walks, {shared_copied} \
             entries copied; {shared_lost} reads fault for good"
        }
        Text::OwnPmds => {
            "each process has PMD entries of its own: two levels, or user tables apart; this kernel's processes \
             share one PMD table, and there is nothing to synchronise"
        }
        Text::NewPmdEntry => "the area needs a new PMD entry: below one that all have, nothing is copied",
        Text::FaultsAlone => "this era never left the old way of faults, which copy; nobody else does",
        Text::VmallocSyncTitle => "how processes of x86-64 come to see a new area of vmalloc",
        Text::VmallocSyncReverse => {
            "each area lies below a top-level entry of its own; reversed all lie below one that boot has made"
        }
        Text::OnDemandClaim => {
            "\"It was on demand: a fault in vmalloc's range copied the missing entry; then vmalloc itself \
             copied it to all.\""
        }
        Text::SyncSetup => {
            "{old} processes, {areas} areas, {young} more processes; {readers} of the old ones read each area \
             ({reads} reads), and all young ones"
        }
        Text::OnFaultWay => {
            "on fault (up to 5.7): {faults} faults copy {copied} entries, pgd_list is walked {walks} times; \
             those born later take {young_faults} faults"
        }
        Text::AtMappingWay => {
            "by vmalloc (5.8): {sync_walks} walks over pgd_list visit {visited} roots and copy {sync_copied} \
             entries, whoever reads; {sync_faults} faults"
        }
        Text::OldRule => {
            "a kernel up to 5.7 (on fault) or 5.8 (by vmalloc) is meant: this era makes the tables at boot, \
             and the run chose the old rules"
        }
        Text::NewTopEntry => {
            "an area needs a new top-level entry: below an entry that every process has nothing is to be \
             copied, in any way"
        }
        Text::StillLost => "a process did not see an area",
        Text::AtBootClaim => {
            "\"All tables that vmalloc hangs below the top level are made at boot: no fault, no walk over \
             pgd_list. Its first version had a bug.\""
        }
        Text::AtBootWay => {
            "made at boot (since 5.9): {tables} tables ({bytes}) beside the one for the first stack; {reads} \
             reads take {faults} faults, {copied} entries are copied in {walks} walks"
        }
        Text::NoWayRun => {
            "with no way at all: of {none_reads} reads by {few} processes older than the areas {none_lost} \
             fault for good; processes born later take {none_young} faults"
        }
        Text::FirstVersionZeros => {
            "the first version looks behind an empty entry, into frame 0: where that holds zeros it makes \
             {zeros_tables} tables, and {zeros_lost} reads fault for good"
        }
        Text::FirstVersionVectors => {
            "with a BIOS's interrupt vectors there ({vectors}) it makes {vectors_tables}: {vectors_lost} of \
             {vectors_reads} reads fault for good"
        }
        Text::WithinVmalloc => {
            "vmalloc alone is meant: a new top-level entry of the direct map or of vmemmap is again copied \
             into every root"
        }
        Text::CopiesOnFault => "this era copies on fault and makes nothing at boot",
        Text::PreallocateTitle => "the tables that x86-64 makes at boot for all of vmalloc",
        Text::PreallocateReverse => "boot makes the tables; reversed it leaves them out",
        Text::FiftyAndSixtyFourClaim => "\"Five levels make 12.5P / 256T = 50 tables, four levels 32T / 512G = 64.\"",
        Text::TablesByRule => {
            "{era}: four levels, {vmalloc_four} of vmalloc: {tables_four} tables of {reach_four} each; five \
             levels, {vmalloc_five}: {tables_five} of {reach_five}"
        }
        Text::TablesOfBoot => {
            "booted (makes the tables: {preallocates}): of {slots} top-level entries {linked} link a table, \
             {linked_bytes} in all; of these tables {used} is in use, for the first stack"
        }
        Text::AreaInEach => "then {areas} areas, one in the range of each: {new_entries} new top-level entries",
        Text::FramesOfBoot => "boots with and without the tables differ by {frames_between} free pages",
        Text::NoPreallocation => "this era makes none: a fault copies entries",
        Text::LeftOut => "this boot left them out: the first kernel stack alone has its table",
        Text::AtABoundary => {
            "vmalloc starts at an entry's boundary: where KASLR moves it elsewhere it touches one entry more"
        }
        Text::OtherTables => "this layout needs another number",
        Text::ForkTitle => "what fork shares, what it copies, and what it copies later",
        Text::ForkReverse => "after the fork the child writes first; reversed the parent does",
        Text::SharedHalfClaim => {
            "\"Each process has its own top-level table, and the kernel's half of all is the same: from the \
             second level on tables are shared.\""
        }
        Text::HalvesOfRoots => {
            "the kernel's root uses {present} of {slots} entries; of {processes} processes {equal} have the \
             same ones, and all together {own_entries}"
        }
        Text::NewArea => {
            "a new area of vmalloc: under {seen} of {processes} processes the kernel reads it, after {faults} \
             faults; {changed} roots were changed"
        }
        Text::RootOfItsOwn => {
            "a shared tree is meant, not copies: the kernel has a root of its own (TTBR1), and a process's \
             root holds no entry for it"
        }
        Text::HalvesDiffer => "a process does not have the kernel's entries",
        Text::ListedClaim => {
            "\"fork copies the kernel's half of swapper_pg_dir into the new top-level table and puts it on \
             pgd_list.\""
        }
        Text::ListOfRoots => {
            "pgd_list has {before} before and {after} after the fork, the child's root first: {newest}; \
             {behind} once the child has ended"
        }
        Text::EntriesCopied => {
            "the child's root {child} holds {copied} entries for the kernel, whose root is {swapper}"
        }
        Text::NothingToCopy => "nothing is copied and no list is kept: the kernel has a root of its own (TTBR1)",
        Text::CopyOnWriteClaim => {
            "\"The other half is copied from the parent, by copy-on-write where that is needed.\""
        }
        Text::AfterFork => {
            "after the fork {same} of {pages} pages are the same frames, below {tables} new tables; writes \
             refused: parent {refused_parent}, child {refused_child}"
        }
        Text::ChildReads => {
            "the child reads what the parent wrote in {inherited}; {marked} of these reads fault, to mark the \
             page as accessed"
        }
        Text::ChildWrites => {
            "the child writes {first_writes}: {first_copies} copied, {first_reused} taken over; the parent \
             still reads its own in {kept}"
        }
        Text::ParentWrites => {
            "the parent writes {first_writes}: {first_copies} copied, {first_reused} taken over; the child \
             still reads the old in {kept}"
        }
        Text::OtherWrites => {
            "the other writes all {pages}: {second_copies} copied, {second_reused} taken over, as it is alone \
             there; the first writes the rest: {rest_copies} copied, {rest_reused} taken over; {same_at_last} \
             frames stay shared"
        }
        Text::Untouched => {
            "a region that the parent had not touched has no page to copy: the child finds {fresh} page of \
             zeros by a fault of its own"
        }
        Text::PagesThatExist => {
            "pages that exist are meant: a region that the parent never wrote is copied as an address range \
             alone, and the child faults its pages in"
        }
        Text::NotApart => "parent and child see each other write",
    }
}
