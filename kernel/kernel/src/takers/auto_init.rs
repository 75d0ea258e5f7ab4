//! What is cleared by itself: stacks, and pages of the heap when they are taken or given back.
//!
//! Source: Linux 6.1 init/main.c `report_meminit`; mm/page_alloc.c `init_mem_debugging_and_hardening`.

use kernmem_config::Config;

/// How stacks are initialised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StackInit {
    /// All variables, with a pattern.
    Pattern,
    /// All variables, with zeros.
    Zero,
    /// All variables whose address is taken.
    ByReferenceAll,
    /// Structures whose address is taken.
    ByReference,
    /// Structures that user mode may see.
    User,
    /// Not at all.
    Off,
}

/// What is cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AutoInit {
    /// Stacks.
    pub stack: StackInit,
    /// Memory of the heap when it is taken.
    pub heap_alloc: bool,
    /// Memory of the heap when it is given back.
    pub heap_free: bool,
}

/// What `config` clears. Poisoning of free pages, where it is asked for, beats both kinds of clearing.
#[must_use]
pub fn auto_init(config: &Config) -> AutoInit {
    let set = |name| config.kconfig.is_set(name);
    let stack = match () {
        () if set("INIT_STACK_ALL_PATTERN") => StackInit::Pattern,
        () if set("INIT_STACK_ALL_ZERO") => StackInit::Zero,
        () if set("GCC_PLUGIN_STRUCTLEAK_BYREF_ALL") => StackInit::ByReferenceAll,
        () if set("GCC_PLUGIN_STRUCTLEAK_BYREF") => StackInit::ByReference,
        () if set("GCC_PLUGIN_STRUCTLEAK_USER") => StackInit::User,
        () => StackInit::Off,
    };
    let word = |name, option| config.cmdline.early_bool(name, config.era, set(option)).value;
    let poisoned = set("PAGE_POISONING") && config.cmdline.early_bool("page_poison", config.era, false).value;
    AutoInit {
        stack,
        heap_alloc: word("init_on_alloc", "INIT_ON_ALLOC_DEFAULT_ON") && !poisoned,
        heap_free: word("init_on_free", "INIT_ON_FREE_DEFAULT_ON") && !poisoned,
    }
}
