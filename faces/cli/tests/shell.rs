//! The verb `shell`: commands on a running kernel, from a file, from standard input and from the command line. Addresses
//! are reckoned by hand from the layout: vmalloc starts behind the first kernel stack (16K) and its guard page.
#![allow(clippy::unwrap_used, reason = "functions that tests share fail as tests do")]

use crate::common::{file, json, kernmem, kernmem_fed};

/// Presets of Linux 6.1, with the first address that vmalloc gives there: start of the region, 16K and a guard page.
const MACHINES: [(&str, &str); 2] = [("arm64-4g", "0xffff800008005000"), ("x86-4g", "0xffffc90000005000")];

/// The lines that `commands` print on a machine.
#[track_caller]
fn lines(machine: &str, commands: &str) -> Vec<String> {
    kernmem(&["shell", machine, "-c", commands]).good().lines().map(str::to_owned).collect()
}

#[test]
fn what_is_written_into_an_area_is_read_there_and_through_the_linear_map() {
    for (machine, first) in MACHINES {
        let said = lines(
            machine,
            "A = vmalloc 8K; poke $A+4096 0x1234; peek $A+4096; P = vmalloc_to_pfn $A+4096; L = page_address $P; peek $L; \
             poke $L 99; peek $A+4K; B = vmalloc 4K",
        );
        assert_eq!(
            (said[0].as_str(), said[1].as_str(), said[4].as_str(), said[5].as_str()),
            (first, "0x1234", "0x1234", "0x63")
        );
        // Two pages and the guard page lie between the areas.
        let next = u64::from_str_radix(&first[2..], 16).unwrap() + 0x3000;
        assert_eq!(said[6], format!("{next:#x}"));
    }
}

#[test]
fn behind_an_area_and_after_it_is_freed_an_access_faults() {
    for (machine, first) in MACHINES {
        let said =
            lines(machine, "A = vmalloc 8K; -peek $A+8K; -poke $A+8K 1; vfree $A; -peek $A; -vfree $A; purge; purge");
        let guard = u64::from_str_radix(&first[2..], 16).unwrap() + 0x2000;
        assert_eq!(said[1], format!("error: kernel read at {guard:#x}: translation fault at PTE"));
        assert_eq!(said[2], format!("error: kernel write at {guard:#x}: translation fault at PTE"));
        assert_eq!(said[3], format!("error: kernel read at {first}: translation fault at PTE"));
        assert_eq!(said[4], format!("error: vmalloc: no area holds {first}"));
        // The guard page is flushed with the area.
        assert_eq!(said[5], format!("flushed {first}-{:#x}", guard + 0x1000));
        assert_eq!(said[6], "nothing to purge");
    }
}

#[test]
fn a_child_shares_pages_until_a_write_and_the_parent_keeps_its_own() {
    for (machine, _) in MACHINES {
        let said = lines(
            machine,
            "P = spawn; M = mmap $P 16K; read $P $M; write $P $M 7; C = fork $P; write $C $M 9; read $P $M; read $C $M; \
             write $P $M 8; read $P $M; read $C $M",
        );
        let faults: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("fault: ")).collect();
        let by_kind = |kind: &str| faults.iter().filter(|line| line.contains(kind)).count();
        assert_eq!((by_kind("zeros"), by_kind("new page"), by_kind("copied"), by_kind("taken over")), (1, 1, 1, 1));
        let words: Vec<&str> = said.iter().map(String::as_str).filter(|line| !line.starts_with("fault")).collect();
        // Two numbers of programs, the region's address, and what is read before and after each write.
        assert_eq!((words[0], words[3]), ("1", "2"));
        assert_eq!([words[2], words[4], words[5], words[6], words[7]], ["0x0", "0x7", "0x9", "0x8", "0x9"]);
    }
}

#[test]
fn a_signal_is_told_and_ends_only_a_strict_script() {
    for (machine, _) in MACHINES {
        let commands = "P = spawn; M = mmap $P 4K r; write $P $M 1; write $P 0 1; spawn";
        let said = lines(machine, commands);
        assert_eq!(said[2], "program 1 gets SIGSEGV (SEGV_ACCERR): the region does not allow it");
        assert_eq!(said[3], "program 1 gets SIGSEGV (SEGV_MAPERR): no region is mapped there");
        assert_eq!(said[4], "2");
        let strict = kernmem(&["shell", machine, "-c", &format!("strict on; {commands}")]);
        assert_eq!((strict.status, strict.err.as_str()), (1, ""));
        assert_eq!(strict.out.lines().last(), Some(format!("error: {}", said[2]).as_str()));
    }
}

/// Four bytes of the word lie in the first page and four in the second: each page has a fault of its own.
#[test]
fn a_word_across_two_pages_faults_once_for_each() {
    for (machine, _) in MACHINES {
        let told = lines(machine, "P = spawn; E = mmap $P 8K; write $P $E+4092 0x1122334455667788; read $P $E+4092");
        assert_eq!(told[2..], ["fault: a new page is mapped", "fault: a new page is mapped", "0x1122334455667788"]);
        let alone = lines(machine, "P = spawn; E = mmap $P 4K; write $P $E+4092 1");
        assert!(alone.last().unwrap().contains("SIGSEGV (SEGV_MAPERR)"), "{alone:?}");
    }
}

#[test]
fn rights_that_are_taken_away_are_missed_by_the_next_write() {
    for (machine, _) in MACHINES {
        let said = lines(
            machine,
            "P = spawn; M = mmap $P 8K; write $P $M 5; mprotect $P $M 4K r; write $P $M 6; write $P $M+4K 6; read $P $M; \
             munmap $P $M 8K; read $P $M",
        );
        assert_eq!(said[3], "program 1 gets SIGSEGV (SEGV_ACCERR): the region does not allow it");
        assert_eq!(&said[4..6], ["fault: a new page is mapped", "0x5"]);
        assert_eq!(said[6], "program 1 gets SIGSEGV (SEGV_MAPERR): no region is mapped there");
    }
}

#[test]
fn what_is_freed_twice_is_told() {
    for (machine, _) in MACHINES {
        let said = lines(
            machine,
            "A = alloc 3; -free $A 2; free $A 3; -free $A 3; O = kmalloc 100; kfree $O; -kfree $O; kfree 0; -kfree 8; V = vmalloc 4K; \
             vfree $V; vfree 0; -vfree $V; P = spawn; exit $P; -exit $P",
        );
        let errors: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("error: ")).collect();
        assert_eq!(errors.len(), 6, "{said:?}");
        for (error, words) in errors.iter().zip([
            "was not taken as a block of order 2",
            "or it is free already",
            "is free already",
            "no memory of a slab",
            "no area holds",
            "there is no program 1",
        ]) {
            assert!(error.contains(words), "{error} lacks {words}");
        }
    }
}

#[test]
fn a_refusal_ends_a_script_with_a_finding() {
    let said = kernmem(&["shell", "-c", "spawn; vmalloc 0; spawn"]);
    assert_eq!((said.status, said.err.as_str()), (1, ""));
    assert_eq!(said.out, "1\nerror: vmalloc: no bytes were asked for\n");
    assert_eq!(kernmem(&["shell", "-c", "spawn; -vmalloc 0; spawn"]).good().lines().last(), Some("2"));
    let huge = kernmem(&["shell", "-c", "vmalloc 100G"]);
    assert_eq!(huge.status, 1);
    assert_eq!(huge.out, "error: vmalloc: 107374182400 bytes are more than there can be\n");
}

#[test]
fn a_wrong_line_is_named_with_its_place_and_nothing_more_is_run() {
    for (text, place, words) in [
        ("spawn\n\nspwan\nspawn\n", 3, "no command `spwan`"),
        ("spawn # a program\nfork\nspawn\n", 2, "PID is missing; usage: fork PID"),
        ("spawn\nfork one\nspawn\n", 2, "`one`: a number such as"),
        ("spawn\nfork $X\n", 2, "nothing was named X"),
        ("spawn\nfork 1 2\n", 2, "`2` is too much"),
        ("spawn\nA = purge\n", 2, "leaves nothing that A could name"),
        ("spawn\nA =\n", 2, "a command is missing"),
        ("spawn\nalloc 0 GFP_NONE\n", 2, "`GFP_NONE` is no GFP word"),
        ("spawn\nmmap 1 4K rq\n", 2, "`rq` is no protection"),
        ("spawn\nhvo maybe\n", 2, "`on` or `off` expected"),
    ] {
        let path = file(&format!("wrong-{place}-{}.txt", words.len()), text.as_bytes());
        let said = kernmem(&["shell", "--script", &path]);
        assert_eq!(said.status, 2, "{said:?}");
        let first = said.out.lines().next();
        assert!(first == Some("1") && !said.out.contains("\n2\n") && !said.out.ends_with("2\n"), "{said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
        assert!(
            said.err.starts_with(&format!("kernmem: shell: {path}:{place}: ")) && said.err.contains(words),
            "{said:?}"
        );
    }
}

#[test]
fn what_is_no_script_is_refused() {
    let line = kernmem(&["shell", "--script", "no/such/file"]).refused(2);
    assert!(line.contains("no/such/file") && line.contains("give a file of commands"), "{line}");
    let line = kernmem(&["shell", "--script", env!("CARGO_TARGET_TMPDIR")]).refused(2);
    assert!(line.contains("give a file of commands"), "{line}");
    let line = kernmem(&["shell", "--script", "/dev/zero"]).refused(2);
    assert!(line.contains("/dev/zero:1: ") && line.contains("longer than"), "{line}");
    let line = kernmem(&["shell", "--script", &file("binary.txt", b"spawn \xff\xfe\n")]).refused(2);
    assert!(line.contains(":1: ") && line.contains("UTF-8"), "{line}");
    assert!(kernmem(&["shell", "-"]).refused(2).contains("-c or --script"));
    assert!(kernmem(&["shell", "no/such/machine", "-c", "spawn"]).refused(2).contains("no/such/machine"));
    assert!(kernmem(&["shell", "-c", "spawn", "--script", "x"]).refused(2).contains("cannot be used with"));
}

#[test]
fn commands_come_from_a_file_from_the_arguments_and_from_standard_input() {
    let text = "A = vmalloc 4K\npoke $A 1 # one\n\npeek $A\nquit\nspawn\n";
    let expected = "0xffff800008005000\n0x1\n";
    assert_eq!(kernmem(&["shell", "-c", text]).good(), expected);
    assert_eq!(kernmem(&["shell", "-f", &file("plain.txt", text.as_bytes())]).good(), expected);
    assert_eq!(kernmem_fed(&["shell"], text.as_bytes()).good(), expected);
    assert_eq!(kernmem_fed(&["shell"], text.trim_end().as_bytes()).good(), expected);
    assert_eq!(kernmem(&["shell"]).good(), "");
    let said = kernmem_fed(&["shell"], b"spawn\nbogus\n");
    assert_eq!((said.status, said.out.as_str()), (2, "1\n"));
    assert!(said.err.starts_with("kernmem: shell: standard input:2: "), "{said:?}");
}

/// Depth and name of each call of a tree.
fn calls(said: &str) -> Vec<(usize, &str)> {
    let call = |line| {
        let (before, call) = str::split_once(line, "-> ").unwrap_or(("", line));
        let depth = if line.contains("-> ") { before.len() / 3 + 1 } else { 0 };
        Some((depth, call.split_once('(')?.0))
    };
    said.lines().filter_map(call).collect()
}

#[test]
fn the_tree_of_a_vmalloc_is_the_chain_of_the_document() {
    for (machine, _) in MACHINES {
        let said = kernmem(&["shell", machine, "--trace", "-c", "vmalloc 12K"]).good();
        let chain = [
            (0, "vmalloc"),
            (1, "__vmalloc_node"),
            (2, "__vmalloc_node_range"),
            (3, "__get_vm_area_node"),
            (4, "kzalloc_node"),
            (4, "alloc_vmap_area"),
            (4, "setup_vmalloc_vm"),
            (3, "__vmalloc_area_node"),
            (4, "kmalloc_node"),
            (4, "vm_area_alloc_pages"),
            (4, "vmap_pages_range"),
        ];
        assert_eq!(calls(&said), chain, "{said}");
        // Sizes along the chain: three pages; with the guard page; three pointers.
        for part in
            ["-> __vmalloc_node(size 12288, align 1", "-> alloc_vmap_area(size 16384,", "-> kmalloc_node(size 24)"]
        {
            assert!(said.contains(part), "{said}");
        }
    }
}

#[test]
fn an_array_of_more_than_a_page_is_a_vmalloc_of_its_own() {
    // 4 MiB are 1024 pages, whose pointers take 8 KiB.
    let said = kernmem(&["shell", "-c", "trace on; A = vmalloc 4M; trace off; vfree $A; purge"]).good();
    let calls = calls(&said);
    let area = calls.iter().position(|call| *call == (3, "__vmalloc_area_node")).unwrap();
    assert_eq!(
        calls[area + 1..area + 4],
        [(4, "__vmalloc_node"), (5, "__vmalloc_node_range"), (6, "__get_vm_area_node")]
    );
    assert!(said.contains("-> __vmalloc_node(size 8192, align 1"));
    // The array of the array's two pages is small.
    assert_eq!(said.matches("-> kmalloc_node(").count(), said.matches("-> kmalloc_node(size 16)").count());
    assert_eq!(said.matches("-> kmalloc_node(").count(), 1);
    assert!(!said.contains("vfree("), "tracing was off: {said}");
}

#[test]
fn a_call_that_fails_is_marked_in_the_tree() {
    let said = kernmem(&["shell", "--trace", "-c", "-vmalloc 1T"]).good();
    let failed: Vec<&str> = said.lines().filter(|line| line.ends_with(" fails")).collect();
    // From the inside out, each under its own call.
    assert_eq!(failed, ["      __vmalloc_node_range fails", "   __vmalloc_node fails", "vmalloc fails"]);
}

#[test]
fn one_frame_has_the_same_bytes_under_all_its_addresses() {
    for (machine, _) in MACHINES {
        let said = lines(
            machine,
            "F = alloc 1 __GFP_ZERO; L = page_address $F; peek $L+4K; V = vmap $F+1 $F; poke $L 5; peek $V+4K; poke $V 6; \
             peek $L+4K; vunmap $V; peek $L; free $F 1",
        );
        let words: Vec<&str> = said.iter().map(String::as_str).filter(|line| line.len() < 5).collect();
        assert_eq!(words, ["0x0", "0x5", "0x6", "0x5"], "{said:?}");
    }
}

#[test]
fn the_kernels_own_memory_is_not_overwritten() {
    for (machine, _) in MACHINES {
        let listed = lines(machine, "spawn; ps");
        let root = listed[1].split("root ").nth(1).unwrap().split(',').next().unwrap();
        let frame = u64::from_str_radix(&root[2..], 16).unwrap() >> 12;
        let said = kernmem(&["shell", machine, "-c", &format!("spawn; L = page_address {frame}; peek $L; poke $L 0")]);
        assert_eq!(said.status, 1);
        let last = said.out.lines().last().unwrap();
        assert!(last.contains(root) && last.contains("which no command has taken"), "{said:?}");
        assert!(kernmem(&["shell", machine, "-c", &format!("spawn; free {frame} 0")]).out.contains("error: frame"));
    }
}

#[test]
fn areas_that_boot_made_stay() {
    // The first CPU's interrupt stack is the lowest area; arm64's image begins 64K into the region.
    for (machine, address, owner) in [
        ("arm64-4g", "0xffff800008000000", "start_kernel"),
        ("arm64-4g", "0xffff800008010000", "paging_init"),
        ("x86-4g", "0xffffc90000000000", "irq_init_percpu_irqstack"),
    ] {
        for command in ["vfree", "vunmap", "iounmap"] {
            let said = kernmem(&["shell", machine, "-c", &format!("{command} {address}")]);
            assert_eq!(said.status, 1);
            assert_eq!(said.out, format!("error: vmalloc: the area at {address} is the kernel's own, of {owner}\n"));
        }
    }
}

#[test]
fn no_bytes_are_an_address_that_is_no_memory() {
    let said = lines("arm64-4g", "A = kmalloc 0; kfree $A; -peek $A; -kmalloc 5M");
    assert_eq!(said[0], "0x10");
    assert!(said[1].starts_with("error: kernel access at 0x0000000000000010"), "{said:?}");
    // The largest block of pages is 4 MiB.
    assert_eq!(said[2], "error: slab: no block has 5242880 bytes");
}

#[test]
fn a_program_runs_on_the_cpu_that_is_named() {
    let said =
        lines("x86-4g", "P = spawn; M = mmap $P 4K; cpu 1; write $P $M 3; cpu; cpu 0; read $P $M; cpu; exit $P; cpu 1");
    assert_eq!(
        [said[2].as_str(), &said[4], &said[5], &said[6], &said[7], &said[8]],
        ["CPU 1 of 2", "CPU 1 of 2, runs program 1", "CPU 0 of 2", "0x3", "CPU 0 of 2, runs program 1", "CPU 1 of 2",]
    );
    assert_eq!(kernmem(&["shell", "x86-4g", "-c", "cpu 2"]).out, "error: there is no CPU 2, only 2\n");
}

#[test]
fn pools_grow_and_shrink_and_give_their_descriptors_back() {
    for (machine, _) in MACHINES {
        let said = lines(machine, "hvo on; H = hugepages 2M 3; $H; hugepages 2M 0; -hugepages 3M 1");
        assert_eq!(&said[..3], ["3 pages of 2M", "0x3", "0 pages of 2M"]);
        assert!(said[3].starts_with("error: there is no pool of 3M pages"), "{}", said[3]);
    }
}

#[test]
fn a_walk_of_a_programs_address_ends_at_its_page() {
    for (machine, _) in MACHINES {
        let said =
            kernmem(&["shell", machine, "-c", "P = spawn; M = mmap $P 4K; write $P $M 1; A = walk $M $P; $A"]).good();
        let physical = said.lines().last().unwrap();
        assert!(said.contains(&format!("\nphysical {physical}: 0x0 into the 4K page at {physical}\n")), "{said}");
        assert_eq!(said.lines().filter(|line| line.contains("-> entry at")).count(), 4);
        let none = lines(machine, "spawn; walk 0x1000 1");
        assert!(none.iter().any(|line| line == "nothing is mapped here: the PGD entry is empty"), "{none:?}");
    }
}

#[test]
fn answers_for_programs_have_a_row_for_each_command() {
    let answer =
        json(&["shell", "--json", "-c", "A = vmalloc 4K; spawn\nwrite 1 0 0\n-vfree 1\nvfree 3"], "kernmem.shell");
    let rows = answer["commands"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[0]["value"], "0xffff800008005000");
    assert_eq!((&rows[1]["command"], rows[1]["line"].as_u64()), (&"spawn".into(), Some(1)));
    assert_eq!((&rows[2]["outcome"], rows[2]["line"].as_u64()), (&"signal".into(), Some(2)));
    assert_eq!((&rows[3]["outcome"], &rows[4]["outcome"]), (&"error".into(), &"error".into()));
    assert!(rows[3]["error"].as_str().unwrap().starts_with("vmalloc: "));
}

#[test]
fn a_machine_of_64_tebibytes_runs_as_far_as_the_host_lets_it() {
    let said = kernmem(&["shell", "--memory", "64T", "-c", "A = vmalloc 4K; poke $A 1; peek $A; -spawn"]).good();
    // 64 GiB of counts may be more than the host has; then that is the answer.
    let last = said.lines().last().unwrap();
    assert!(said.contains("\n0x1\n") && (last == "1" || last.contains("no room to count")), "{said}");
}

#[test]
fn a_kernel_that_is_not_modelled_is_told_before_anything_runs() {
    assert!(kernmem(&["shell", "i386-2g", "-c", "spawn"]).refused(3).contains("i386"));
}

/// Pages of 4K for 8 TiB need 16 GiB of tables.
#[test]
fn more_tables_than_the_host_can_lend_are_refused_by_the_shells_own_boot() {
    let line = kernmem(&["shell", "--memory", "8T", "--cmdline", "rodata=full", "-c", "spawn"]).refused(2);
    assert!(line.contains("arm64-4g") && line.contains("page tables"), "{line}");
}

#[test]
fn help_lists_every_command_and_tells_one() {
    let all = kernmem(&["shell", "-c", "help"]).good();
    for name in ["alloc", "vmalloc", "ioremap", "kfree", "hugepages", "fork", "mprotect", "peek", "walk", "quit"] {
        assert!(all.lines().any(|line| line.trim_start().split(' ').next() == Some(name)), "{name}: {all}");
    }
    assert!(kernmem(&["shell", "-c", "help vmap"]).good().starts_with("vmap PFN…\n"));
    assert_eq!(kernmem(&["shell", "-c", "help nothing"]).refused(2).split(": ").next(), Some("shell"));
}

#[test]
fn files_of_proc_follow_the_commands() {
    for (machine, _) in MACHINES {
        // An area of two pages and its guard page: 12K; asked for by commands.
        let areas = |commands: &str| {
            let said = lines(machine, &format!("{commands} show vmallocinfo"));
            said.into_iter().filter(|line| line.contains("pages=2 vmalloc")).collect::<Vec<_>>()
        };
        assert_eq!(areas(""), Vec::<String>::new());
        let one = areas("vmalloc 8K;");
        assert!(matches!(one.as_slice(), [line] if line.contains(" 12288 kernmem ")), "{one:?}");
        assert_eq!(areas("A = vmalloc 8K; vfree $A; purge;"), Vec::<String>::new());
        let free = |commands: &str| {
            let said = lines(machine, &format!("{commands} drain; show zoneinfo"));
            let free = said.iter().filter_map(|line| line.trim().strip_prefix("pages free"));
            free.map(|pages| pages.trim().parse::<u64>().unwrap()).sum::<u64>()
        };
        assert_eq!(free("") - free("alloc 3;"), 8, "{machine}");
        let said = kernmem(&["shell", machine, "-c", "show nothing"]);
        assert_eq!(said.status, 2);
        assert!(said.err.contains("there is no file `nothing`; one of buddyinfo"), "{said:?}");
    }
}
