# Sourced by the scripts that build for release. Two builds of the same sources by the same compiler shall give the
# same bytes wherever they stand, and tell nothing of the machine: the folders that a compiler writes down get
# names of their own.
#
# Before: $root, the sources, and $target, cargo's target folder. Changes what cargo and the C compiler are told.

export CARGO_INCREMENTAL=0

# cargo takes this variable for RUSTFLAGS, with a separator that no path has.
separator=$(printf '\037')
flags=${CARGO_ENCODED_RUSTFLAGS-$(printf %s "${RUSTFLAGS-}" | tr -s ' ' "$separator")}
map() { # FOLDER NAME; of several that fit, the last counts
    flags=${flags:+$flags$separator}--remap-path-prefix=$1=$2
    CFLAGS="${CFLAGS:+$CFLAGS }-ffile-prefix-map=$1=$2"
}
map "$root" registry-transport
map "$root/vendor" crates
map "$target" target
# Where cargo finds crates that are not beside the sources.
for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    [ ! -d "$folder" ] || map "$folder" crates
done
export CARGO_ENCODED_RUSTFLAGS="$flags" CFLAGS
