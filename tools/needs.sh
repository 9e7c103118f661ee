# What the scripts in this folder share: where builds go, and how missing tools are installed.
# Sourced, never run. Debian only: elsewhere install the packages by hand.

# The newest compiler that a fresh machine has may be too old; rustup follows rust-toolchain if there is one.
BENTENG_CACHE="${BENTENG_CACHE:-$HOME/.cache/benteng}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${BENTENG_TARGET:-$BENTENG_CACHE/target}}"
export PATH="$BENTENG_CACHE/tools/bin:$HOME/.cargo/bin:$PATH"
mkdir -p "$BENTENG_CACHE"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# need_packages PACKAGE...: installs those Debian packages that are not there.
need_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return 0
  command -v apt-get >/dev/null || { echo "please install: ${missing[*]}" >&2; return 1; }
  echo "installing Debian packages: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# need_build_tools: what compiling the binary takes (RocksDB is C++, its bindings need libclang).
need_build_tools() {
  local packages=()
  command -v cc >/dev/null && command -v c++ >/dev/null || packages+=(build-essential)
  command -v clang >/dev/null || packages+=(clang)
  command -v pkg-config >/dev/null || packages+=(pkg-config)
  command -v curl >/dev/null || packages+=(curl)
  find /usr/lib -name 'libclang*.so*' -print -quit 2>/dev/null | grep -q . || packages+=(libclang-dev)
  need_packages ca-certificates "${packages[@]}"
  if ! command -v cargo >/dev/null; then
    need_packages rustup || { echo "please install Rust 1.95 or newer: https://rustup.rs" >&2; return 1; }
    rustup default stable
  fi
}

# need_cargo_tool COMMAND CRATE VERSION: installs a cargo subcommand into the cache.
need_cargo_tool() {
  cargo "$1" --version >/dev/null 2>&1 && return 0
  echo "building $2 $3 (once; kept in $BENTENG_CACHE/tools)"
  CARGO_TARGET_DIR="$BENTENG_CACHE/tools/target" \
    cargo install --quiet --locked "$2" --version "$3" --root "$BENTENG_CACHE/tools"
  rm -rf "$BENTENG_CACHE/tools/target"
}
