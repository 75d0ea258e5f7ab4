#!/bin/sh
# Collects what a running Linux tells about its memory into a folder that `kernmem verify` reads.
#
#   sh record.sh [FOLDER]        as root, with debugfs mounted, for a complete recording
#
# FOLDER (./kernmem-recording) gets ARCH/NAME, the recording, and kernels/RELEASE, the kernel it ran.
# What cannot be collected is named on standard error and in the recording's file MISSING; the rest is kept.
# Nothing on the system is changed: nothing is mounted, no setting is touched, only FOLDER is written.
#
# Variables: NAME   the recording's name (the host's)
#            ERA    the branch of Linux, 4.14, 5.10, 6.1, 6.12 or 7.2 (the release's)
#            CPU    arm64: the CPU's model as kernmem names it (by implementer and part)
#            ROOT   a folder in front of /proc, /sys, /boot, /lib and /var (none)
#
# Exit status: 0 recorded, 1 recorded with something missing, 2 nothing recorded.
# It needs sh, awk, sed, grep, cat, tr, wc, head, sort, cp, mkdir, rm; gzip where files are packed.
set -u
LC_ALL=C
export LC_ALL
ROOT=${ROOT:-}
PROC=$ROOT/proc
SYS=$ROOT/sys
DEBUG=$SYS/kernel/debug
TAB=$(printf '\t')

die() {
    printf 'record: %s\n' "$*" >&2
    exit 2
}

# missing WHAT WHY...
missing() {
    what=$1
    shift
    printf 'record: missing %s: %s\n' "$what" "$*" >&2
    printf '%s: %s\n' "$what" "$*" >>"$HERE/MISSING"
}

[ $# -le 1 ] || die "one folder at most; see the head of this script"
case ${1:-} in
-*) die "$1: no option is known; see the head of this script" ;;
esac
TOP=${1:-kernmem-recording}
[ -r "$PROC/version" ] || die "$PROC/version: cannot be read; is this a Linux?"

# ---- Numbers of 64 bits, which neither sh nor awk has: four limbs of 16 bits each.

WORDS='
function digits(x,    i, v) {
    v = 0
    for (i = 1; i <= length(x); i++) v = v * 16 + index("0123456789abcdef", substr(x, i, 1)) - 1
    return v
}
function plain(x) {
    x = tolower(x)
    sub(/^0x/, "", x)
    return substr("0000000000000000" x, length(x) + 1)
}
function sum(a, b, sign,    i, v, carry, out) {
    a = plain(a); b = plain(b); carry = 0; out = ""
    for (i = 13; i >= 1; i -= 4) {
        v = digits(substr(a, i, 4)) + sign * digits(substr(b, i, 4)) + carry
        carry = 0
        if (v >= 65536) { v -= 65536; carry = 1 }
        if (v < 0) { v += 65536; carry = -1 }
        out = sprintf("%04x", v) out
    }
    return out
}
function down(a, unit,    v) {
    a = plain(a)
    v = digits(substr(a, 9))
    v -= v % unit
    return substr(a, 1, 8) sprintf("%04x%04x", int(v / 65536), v % 65536)
}
'
add() { awk "$WORDS BEGIN { print sum(\"$1\", \"$2\", 1) }"; }
minus() { awk "$WORDS BEGIN { print sum(\"$1\", \"$2\", -1) }"; }
# align ADDRESS UNIT: down to a power of two of at most 2^31, given in decimal.
align() { awk "$WORDS BEGIN { print down(\"$1\", $2) }"; }
# shown ADDRESS: without leading zeros.
shown() { printf '%s' "$1" | sed 's/^0x//; s/^0*\(.\)/\1/; s/^/0x/'; }

# ---- Which kernel this is.

VERSION=$(cat "$PROC/version")
RELEASE=$(printf '%s' "$VERSION" | awk '{ print $3 }')
case $RELEASE in
'' | .* | */* | *[!A-Za-z0-9._+~-]*) die "$PROC/version: names no release" ;;
esac
if [ -z "${ERA:-}" ]; then
    ERA=$(printf '%s' "$RELEASE" | sed 's/^\([0-9]*\.[0-9]*\).*/\1/')
fi

KERNEL=$TOP/kernels/$RELEASE
mkdir -p "$KERNEL" 2>/dev/null || die "$KERNEL: cannot be made"
CONFIG=
CONFIG_FROM=
if [ -r "$PROC/config.gz" ] && gzip -dc <"$PROC/config.gz" >"$KERNEL/config" 2>/dev/null; then
    CONFIG=$KERNEL/config
    CONFIG_FROM=/proc/config.gz
else
    rm -f "$KERNEL/config"
    for file in "/boot/config-$RELEASE" "/lib/modules/$RELEASE/config" "/usr/lib/modules/$RELEASE/config"; do
        [ -r "$ROOT$file" ] || continue
        cp "$ROOT$file" "$KERNEL/config" && CONFIG=$KERNEL/config CONFIG_FROM=$file
        break
    done
fi
# is_set OPTION; value OPTION
is_set() { [ -n "$CONFIG" ] && grep -q "^CONFIG_$1=y" "$CONFIG"; }
value() { [ -n "$CONFIG" ] && sed -n "s/^CONFIG_$1=//p" "$CONFIG" | head -n 1; }

if is_set ARM64; then ARCH=arm64
elif is_set X86_64; then ARCH=x86_64
elif is_set X86_32; then ARCH=i386
else
    case $(uname -m) in
    aarch64*) ARCH=arm64 ;;
    x86_64) ARCH=x86_64 ;;
    i?86) ARCH=i386 ;;
    *) die "$(uname -m): an architecture that kernmem does not model" ;;
    esac
fi
case $ARCH in
arm64) SET=arm64 ;;
*) SET=x86 ;;
esac

NAME=${NAME:-$(cat "$PROC/sys/kernel/hostname" 2>/dev/null || uname -n)}
NAME=$(printf '%s' "$NAME" | tr -c 'A-Za-z0-9._-' '-' | sed 's/^[.-]*//')
[ -n "$NAME" ] || NAME=machine
HERE=$TOP/$SET/$NAME
[ ! -e "$HERE/boot.json" ] || die "$HERE: is a recording already; name another with NAME="
mkdir -p "$HERE" 2>/dev/null || die "$HERE: cannot be made"
: >"$HERE/MISSING" || die "$HERE: cannot be written"

[ -n "$CONFIG" ] || missing config "neither /proc/config.gz (CONFIG_IKCONFIG_PROC) nor /boot/config-$RELEASE;" \
    "put the kernel's configuration at kernels/$RELEASE/config"
case $ERA in
4.14 | 5.10 | 6.1 | 6.12 | 7.2) ;;
*) missing era "Linux $ERA is no branch that kernmem knows (4.14, 5.10, 6.1, 6.12, 7.2); ERA= names another" ;;
esac

# ---- Files that are taken as they are.

HINT=
[ -n "$ROOT" ] || [ "$(id -u)" = 0 ] || HINT="; run this as root"

# take FILE NAME [HINT]: a file with text in it.
take() {
    if [ ! -e "$1" ]; then
        missing "$2" "${1#"$ROOT"} is not there${3:-}$HINT"
    elif ! cat "$1" >"$HERE/$2" 2>/dev/null; then
        rm -f "$HERE/$2"
        missing "$2" "${1#"$ROOT"} cannot be read$HINT"
    elif [ ! -s "$HERE/$2" ]; then
        rm -f "$HERE/$2"
        missing "$2" "${1#"$ROOT"} is empty"
    fi
}

for file in version cmdline cpuinfo iomem meminfo zoneinfo buddyinfo pagetypeinfo vmallocinfo slabinfo; do
    take "$PROC/$file" "$file"
done
if [ -s "$HERE/iomem" ] && ! grep -q '[1-9a-f].* : System RAM' "$HERE/iomem"; then
    rm -f "$HERE/iomem"
    missing iomem "its addresses are hidden$HINT"
fi
if [ -s "$HERE/vmallocinfo" ] && grep -q ptrval "$HERE/vmallocinfo"; then
    missing "addresses in vmallocinfo" "they are hashed; the word no_hash_pointers on the command line shows them"
fi
for node in "$SYS"/devices/system/node/node[0-9]*; do
    [ -d "$node" ] && take "$node/meminfo" "node_${node##*/}_meminfo"
done
take "$SYS/devices/system/memory/block_size_bytes" memory_block_size_bytes " (no memory hotplug)"

if [ -n "$(ls -A "$DEBUG" 2>/dev/null)" ]; then
    NO_PTDUMP=" (CONFIG_PTDUMP_DEBUGFS)"
    NO_LISTS=" (the architecture does not keep them)"
else
    NO_PTDUMP="; is debugfs mounted? mount -t debugfs none /sys/kernel/debug"
    NO_LISTS=$NO_PTDUMP
fi
# Where either place is empty, the one that this architecture has is named.
if [ "$ARCH" = arm64 ] && [ ! -e "$DEBUG/page_tables" ] || [ -e "$DEBUG/kernel_page_tables" ]; then
    take "$DEBUG/kernel_page_tables" kernel_page_tables "$NO_PTDUMP"
    LISTING=$HERE/kernel_page_tables
else
    for tree in kernel current_kernel current_user; do
        # Without page-table isolation there are none of user mode.
        [ "$tree" = current_user ] && [ -e "$DEBUG/page_tables/kernel" ] && [ ! -e "$DEBUG/page_tables/$tree" ] && continue
        take "$DEBUG/page_tables/$tree" "page_tables_$tree" "$NO_PTDUMP"
    done
    LISTING=$HERE/page_tables_kernel
fi
if [ "$ARCH" = arm64 ] || [ -d "$DEBUG/memblock" ]; then
    for list in memory reserved; do
        take "$DEBUG/memblock/$list" "memblock_$list" "$NO_LISTS"
    done
    [ ! -e "$DEBUG/memblock/physmem" ] || take "$DEBUG/memblock/physmem" memblock_physmem
fi

# ---- The boot log. A buffer that has lost its head is worth less than a file that kept it.

has_head() { grep -q 'Linux version' "$1" 2>/dev/null; }
[ -n "$ROOT" ] || dmesg >"$HERE/console.txt" 2>/dev/null
if ! has_head "$HERE/console.txt"; then
    for file in /var/log/dmesg /var/log/boot.msg /var/log/dmesg.0; do
        [ -r "$ROOT$file" ] || continue
        if has_head "$ROOT$file" || [ ! -s "$HERE/console.txt" ]; then cat "$ROOT$file" >"$HERE/console.txt"; fi
        has_head "$HERE/console.txt" && break
    done
fi
if [ ! -s "$HERE/console.txt" ]; then
    rm -f "$HERE/console.txt"
    missing console.txt "dmesg says nothing, and there is no /var/log/dmesg$HINT"
elif ! has_head "$HERE/console.txt"; then
    missing "head of console.txt" "the buffer of the log has lost it; log_buf_len= makes it larger"
fi
# logged PATTERN: lines of the log without their times.
logged() { sed -n "s/^\[ *[0-9.]*\] *\(\[ *[CT][0-9]*\] \)*//; /$1/p" "$HERE/console.txt" 2>/dev/null; }

# ---- Symbols, as linked.

# The address at which this kernel's _text was linked; nothing where that is not known.
linked_text() {
    if [ "$ARCH" != arm64 ]; then
        start=$(value PHYSICAL_START)
        [ -n "$start" ] || return 0
        unit=$(value PHYSICAL_ALIGN)
        base=ffffffff80000000
        [ "$ARCH" = x86_64 ] || base=$(printf '%x' $(($(value PAGE_OFFSET))))
        add "$base" "$(printf '%x' $(((start + ${unit:-0x200000} - 1) / ${unit:-0x200000} * ${unit:-0x200000})))"
        return 0
    fi
    bits=$(value ARM64_VA_BITS)
    [ "${bits:-0}" -le 48 ] || { is_set ARM64_16K_PAGES && bits=47 || bits=48; }
    case $bits in
    36) base=fffffff800000000 ;;
    39) base=ffffffc000000000 ;;
    42) base=fffffe0000000000 ;;
    47) base=ffffc00000000000 ;;
    48) base=ffff800000000000 ;;
    *) return 0 ;;
    esac
    case $ERA in
    5.10) is_set KASAN || add "$base" 10000000 ;;
    6.1) add "$base" 8000000 ;;
    6.12 | 7.2) add "$base" 80000000 ;;
    esac
}

# address SYMBOL FILE
address() { awk -v name="$1" '$3 == name && NF == 3 { print $1; exit }' "$2" 2>/dev/null; }

RUNNING=
[ -r "$PROC/kallsyms" ] && RUNNING=$(address _text "$PROC/kallsyms")
case $RUNNING in
*[!0]*) ;;
*)
    [ -z "$RUNNING" ] || missing kallsyms "its addresses are hidden (kernel.kptr_restrict)$HINT"
    RUNNING=
    ;;
esac

SYMBOLS_FROM=
for file in "/boot/System.map-$RELEASE" "/lib/modules/$RELEASE/System.map" "/usr/lib/debug/boot/System.map-$RELEASE"; do
    # Some distributions put a text in its place that says where the real one is.
    [ -n "$(address _text "$ROOT$file")" ] || continue
    cp "$ROOT$file" "$KERNEL/System.map" && SYMBOLS_FROM=$file
    break
done
LINKED=
if [ -n "$SYMBOLS_FROM" ]; then
    LINKED=$(address _text "$KERNEL/System.map")
elif [ -z "$RUNNING" ]; then
    missing System.map "neither /boot/System.map-$RELEASE nor addresses in /proc/kallsyms;" \
        "put it at kernels/$RELEASE/System.map"
else
    LINKED=$(linked_text)
    if [ -z "$LINKED" ]; then
        LINKED=$RUNNING
        missing "link address" "where this kernel was linked is not known: its symbols stay as they run"
    fi
    SHIFT=$(minus "$RUNNING" "$LINKED")
    # Symbols of modules have a fourth field. What lies outside of the image, such as the offsets of per-CPU variables
    # on x86, was not moved.
    awk -v shift="$SHIFT" -v first="$RUNNING" "$WORDS"'
        NF != 3 { next }
        shift ~ /^0*$/ || $1 < first { print; next }
        shift !~ /0000$/ { print sum($1, shift, -1), $2, $3; next }
        {
            width = length($1) - 4
            high = substr($1, 1, width)
            if (!(high in moved)) moved[high] = substr(sum(high "0000", shift, -1), 13 - width, width)
            print moved[high] substr($1, width + 1), $2, $3
        }' "$PROC/kallsyms" >"$KERNEL/System.map"
    SYMBOLS_FROM="/proc/kallsyms minus $(shown "$SHIFT")"
    [ -n "$(address _end "$KERNEL/System.map")" ] || missing "symbols of data" "this kernel was built without KALLSYMS_ALL"
fi

# ---- Sizes of structures: from the types that the kernel carries, else as far as configuration and log tell them.

if [ -r "$SYS/kernel/btf/vmlinux" ]; then
    cat "$SYS/kernel/btf/vmlinux" >"$KERNEL/btf"
else
    missing "sizes of most structures" "there is no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF); the usual ones" \
        "stand in, and kernels/$RELEASE/sizes.csv takes lines such as sizeof_page,64"
fi
{
    printf 'name,value\n'
    shift_of_nodes=$(value NODES_SHIFT)
    [ -z "$CONFIG" ] || printf 'MAX_NUMNODES,%d\n' $((1 << ${shift_of_nodes:-0}))
    cpus=$(value NR_CPUS)
    [ -z "$cpus" ] || printf 'NR_CPUS,%d\n' "$cpus"
    [ -e "$KERNEL/btf" ] || logged 'NODE_DATA' |
        sed -n 's/.*NODE_DATA.*\[mem 0x\([0-9a-f]*\)-0x\([0-9a-f]*\)\].*/\1 \2/p' | head -n 1 |
        awk "$WORDS"'{ print "sizeof_pglist_data," digits(substr(sum($2, $1, -1), 9)) + 1 }'
} >"$KERNEL/sizes.csv"

# ---- What follows from none of these: where a loader put things, what was drawn.

GIVEN=
give() { GIVEN="$GIVEN${GIVEN:+,
}  \"$1\": $2"; }
give_address() { give "$1" "\"$(shown "$2")\""; }
# after MARKER: the first address behind a landmark of the listing.
after() { awk -v mark="---[ $1 ]---" '$0 == mark { getline; print substr($0, 3, 16); exit }' "$LISTING" 2>/dev/null; }
# mapped FROM: the first address from there on that the listing shows as mapped: its line has rights.
mapped() {
    awk -v from="$1" '/^0x/ && substr($0, 3, 16) >= from && NF > 3 { print substr($0, 3, 16); exit }' "$LISTING" 2>/dev/null
}
in_iomem() { sed -n "s/^ *\([0-9a-f]*\)-[0-9a-f]* : $1\$/\1/p" "$HERE/iomem" 2>/dev/null | head -n 1; }

CODE=$(in_iomem 'Kernel code')
if [ -z "$CODE" ]; then
    missing "given text_phys" "/proc/iomem shows no kernel code"
else
    # On arm64 the kernels of 6.1 tell where _stext lies.
    if [ "$ARCH" = arm64 ] && [ "$ERA" = 6.1 ]; then
        if [ -n "$LINKED" ]; then
            CODE=$(minus "$CODE" "$(minus "$(address _stext "$KERNEL/System.map")" "$LINKED")")
        else
            CODE=$(align "$CODE" 2097152)
            missing "exact given text_phys" "without symbols it is taken as the multiple of 2M below _stext"
        fi
    fi
    give_address text_phys "$CODE"
fi

if [ "$ARCH" = x86_64 ] && [ -s "$LISTING" ]; then
    # Memory begins in the first GiB, and the direct map at a multiple of one.
    BASE=$(mapped ff00000000000000)
    [ -z "$BASE" ] || give_address page_offset_base "$(align "$BASE" 1073741824)"
    for pair in 'vmalloc_base:vmalloc() Area' 'vmemmap_base:Vmemmap'; do
        BASE=$(after "${pair#*:}")
        case $BASE in
        *0000000) give_address "${pair%%:*}" "$BASE" ;;
        *) missing "given ${pair%%:*}" "the listing has no landmark of it" ;;
        esac
    done
    # The image is the first thing that is mapped in its region.
    if [ -z "$RUNNING" ]; then
        BASE=$(after 'High Kernel Mapping')
        [ -z "$BASE" ] || RUNNING=$(mapped "$BASE")
    fi
elif [ "$ARCH" = x86_64 ]; then
    missing "given region bases" "there is no listing to read them from"
fi

if [ "$ARCH" = arm64 ]; then
    FIRST=$(mapped 8000000000000000)
    MEMORY=$(in_iomem 'System RAM')
    START=$(sed -n 's/^ *0: 0x\([0-9a-f]*\)\.\..*/\1/p' "$HERE/memblock_memory" 2>/dev/null)
    if [ -n "$FIRST" ] && [ -n "$MEMORY" ]; then
        # Pages at the start may be unmapped; the map is moved by multiples of 128 MiB at least.
        MOVE=$(align "$(minus "$FIRST" "$MEMORY")" 134217728)
        give_address linear_start "$(add "$MOVE" "${START:-$MEMORY}")"
    else
        missing "given linear_start" "it needs the listing and /proc/iomem; without it no linear map was moved"
    fi
fi

case $ARCH in
arm64 | x86_64)
    if [ -n "$RUNNING" ]; then
        give_address text_virt "$RUNNING"
    else
        missing "given text_virt" "/proc/kallsyms does not show it; without it the image was not moved"
    fi
    ;;
esac

# ---- arm64: the devicetree, and the CPU's model.

MODEL=${CPU:-}
if [ "$ARCH" = arm64 ]; then
    TREE=$SYS/firmware/fdt
    if [ ! -r "$TREE" ]; then
        missing final.dtb.gz "/sys/firmware/fdt is not there$HINT"
    elif ! gzip -9 <"$TREE" >"$HERE/final.dtb.gz" 2>/dev/null; then
        rm -f "$HERE/final.dtb.gz"
        cat "$TREE" >"$HERE/final.dtb"
    fi
    if [ -r "$TREE" ]; then
        # The one reserved region that is as large as the tree.
        BYTES=$(printf '%x' $(($(wc -c <"$TREE"))))
        DTB=$(sed -n 's/^ *[0-9]*: 0x\([0-9a-f]*\)\.\.0x\([0-9a-f]*\).*/\1 \2/p' "$HERE/memblock_reserved" 2>/dev/null |
            awk -v bytes="$BYTES" "$WORDS"'sum(sum($2, $1, -1), 1, 1) == plain(bytes) { at = $1; n++ } END { if (n == 1) print at }')
        if [ -n "$DTB" ]; then
            give_address dtb "$DTB"
        else
            missing "given dtb" "no single reserved region is as large as the devicetree"
        fi
    fi
    case $(awk -F ': *' '/^CPU implementer/ { a = $2 } /^CPU part/ { print tolower(a "-" $2); exit }' "$HERE/cpuinfo" 2>/dev/null) in
    0x41-0xd03) KNOWN=cortex-a53 ;;
    0x41-0xd04) KNOWN=cortex-a35 ;;
    0x41-0xd05) KNOWN=cortex-a55 ;;
    0x41-0xd07) KNOWN=cortex-a57 ;;
    0x41-0xd08) KNOWN=cortex-a72 ;;
    0x41-0xd09) KNOWN=cortex-a73 ;;
    0x41-0xd0c) KNOWN=neoverse-n1 ;;
    0x41-0xd82) KNOWN=cortex-x4 ;;
    0x41-0xd83) KNOWN=neoverse-v3ae ;;
    0x41-0xd84) KNOWN=neoverse-v3 ;;
    0xc0-0xac3) KNOWN=ampere1 ;;
    0xc0-0xac4) KNOWN=ampere1a ;;
    0x4e-0x010) KNOWN=nvidia-olympus ;;
    0x00-0x051) KNOWN=max ;;
    *) KNOWN=$(awk -F ': *' '/^CPU implementer/ { a = $2 } /^CPU part/ { print "part-" a "-" $2; exit }' "$HERE/cpuinfo" 2>/dev/null) ;;
    esac
    [ -n "$MODEL" ] || MODEL=${KNOWN:-unknown}
    case $MODEL in
    cortex-a53 | cortex-a72 | neoverse-n1 | max | max,*) ;;
    *)
        # Its registers, as far as its flags, its vulnerabilities and the log tell them.
        flag() { grep -q "^Features.* $1\( \|\$\)" "$HERE/cpuinfo" 2>/dev/null; }
        said() { [ -n "$(logged "CPU features: .*$1")" ]; }
        RNDR=0 BT=0 LVA=0 CNP=0 E0PD=0 CSV3=0 TGRAN=0010
        flag rng && RNDR=1
        flag bti && BT=1
        said '52-bit Virtual Addressing (LVA)' && LVA=1
        said '52-bit Virtual Addressing (LPA2)' && TGRAN=1020
        said 'Common not Private' && CNP=1
        if has_head "$HERE/console.txt" && ! said 'Kernel page table isolation'; then
            [ "$RUNNING" = "$LINKED" ] || E0PD=1
            grep -q 'Not affected' "$SYS/devices/system/cpu/vulnerabilities/meltdown" 2>/dev/null && CSV3=1
        fi
        [ -e "$TOP/cpus.csv" ] || printf 'model,register,value\n' >"$TOP/cpus.csv"
        grep -q "^\"$MODEL\"," "$TOP/cpus.csv" || {
            printf '"%s",ID_AA64PFR0_EL1,0x%d000000000000000\n' "$MODEL" $CSV3
            printf '"%s",ID_AA64PFR1_EL1,0x%d\n' "$MODEL" $BT
            printf '"%s",ID_AA64ISAR0_EL1,0x%d000000000000000\n' "$MODEL" $RNDR
            printf '"%s",ID_AA64MMFR0_EL1,0x%s1125\n' "$MODEL" $TGRAN
            printf '"%s",ID_AA64MMFR2_EL1,0x%d0000000000%d000%d\n' "$MODEL" $E0PD $LVA $CNP
        } >>"$TOP/cpus.csv"
        missing "registers of the CPU" "kernmem has none of $MODEL; what flags and log tell is in cpus.csv, with 48 bits of memory's addresses"
        ;;
    esac
else
    MODEL=$(sed -n 's/^model name[^:]*: *//p' "$HERE/cpuinfo" 2>/dev/null | head -n 1)
fi

# ---- x86: the firmware's map, its tables, the RAM disk.

if [ "$ARCH" != arm64 ]; then
    if [ -z "$(logged 'BIOS-e820: ')" ]; then
        for entry in $(ls "$SYS/firmware/memmap" 2>/dev/null | sort -n); do
            kind=$(cat "$SYS/firmware/memmap/$entry/type")
            case $kind in
            'System RAM') kind=usable ;;
            'ACPI Tables') kind='ACPI data' ;;
            'ACPI Non-volatile Storage') kind='ACPI NVS' ;;
            'Unusable memory') kind=unusable ;;
            'Soft Reserved') kind='soft reserved' ;;
            'Persistent Memory') kind='persistent (type 7)' ;;
            'Persistent Memory (legacy)') kind='persistent (type 12)' ;;
            *) kind=reserved ;;
            esac
            start=$(cat "$SYS/firmware/memmap/$entry/start")
            end=$(cat "$SYS/firmware/memmap/$entry/end")
            printf 'BIOS-e820: [mem %s-%s] %s\n' "$start" "$end" "$kind"
        done >"$HERE/e820"
        if [ -s "$HERE/e820" ]; then
            missing "the firmware's map in console.txt" "it is taken from /sys/firmware/memmap (file e820)"
        else
            rm -f "$HERE/e820"
            missing "the firmware's map" "neither the log nor /sys/firmware/memmap has it"
        fi
    fi
    RAMDISK=$(logged '^RAMDISK: ' | sed -n 's/.*\[mem \(0x[0-9a-f]*\)-\(0x[0-9a-f]*\)\].*/["\1", "\2"]/p' | head -n 1)
    if [ -n "$RAMDISK" ]; then
        give initrd "$RAMDISK"
    elif ! has_head "$HERE/console.txt"; then
        missing "given initrd" "only the head of the log tells where the loader put the RAM disk"
    fi
    TABLES=$({
        logged '^ACPI: Reserving .* table memory at' |
            sed 's/^ACPI: Reserving \(.*\) table memory at \[mem \(0x[0-9a-f]*\)-\(0x[0-9a-f]*\)\].*/["\2", "\3", "ACPI \1"]/'
        logged '^found SMP MP-table at' |
            sed 's/.*\[mem \(0x[0-9a-f]*\)-\(0x[0-9a-f]*\)\].*/["\1", "\2", "MP table"]/'
    } | awk 'NR > 1 { printf ", " } { printf "%s", $0 }')
    [ -z "$TABLES" ] || give firmware "[$TABLES]"
fi

# ---- What was recorded.

# quoted TEXT: as a text of JSON, in one line.
quoted() { printf '"%s"' "$(printf '%s' "$1" | tr '\n\r' '  ' | sed 's/\\/\\\\/g; s/"/\\"/g; s/'"$TAB"'/\\t/g')"; }

# Processors that the machine has, which may be more than the kernel uses.
COUNT=$(cat "$SYS/devices/system/cpu/present" 2>/dev/null | tr ',' '\n' |
    awk -F - '{ n += $NF - $1 + 1 } END { print n + 0 }')
SHOWN=$(grep -c '^processor' "$HERE/cpuinfo" 2>/dev/null)
[ "${COUNT:-0}" -ge "${SHOWN:-0}" ] || COUNT=$SHOWN
TOTAL=$(awk '/^MemTotal:/ { print $2 "K" }' "$HERE/meminfo" 2>/dev/null)
BOARD=$(cat "$SYS/class/dmi/id/product_name" "$PROC/device-tree/model" 2>/dev/null | tr -d '\000')
cat >"$HERE/boot.json" <<END
{
 "kernel": $(quoted "$RELEASE"),
 "release": $(quoted "$RELEASE"),
 "arch": "$ARCH",
 "cpu": $(quoted "$MODEL"),
 "m": $(quoted "$TOTAL"),
 "smp": $COUNT,
 "machine": $(quoted "$BOARD"),
 "args": "",
 "era": $(quoted "$ERA"),
 "cmdline": $(quoted "$(cat "$HERE/cmdline" 2>/dev/null)"),
 "config": $(quoted "$CONFIG_FROM"),
 "symbols": $(quoted "$SYMBOLS_FROM"),
 "given": {
$GIVEN
 }
}
END
printf '%s\n' "$HERE"
[ -s "$HERE/MISSING" ] || rm -f "$HERE/MISSING"
[ ! -e "$HERE/MISSING" ]
