#!/bin/sh
# Makes a Debian 12 machine with Node, npm and cargo (and Go, for the tests) ready to run kelyfos
# from this checkout: Debian packages, npm packages with a current Node among them, generated code,
# agent, jailer, networker, unpacker, mkfs.erofs and the guest image. Does what is missing and nothing else; needs the
# network only for what is missing.
#
#   scripts/setup.sh                what bin/kelyfos needs
#   scripts/setup.sh --for demo     and a registry with a small image
#   scripts/setup.sh --for test     and crictl, critest, a streaming client, containerd with runc
#
# Built things are cached under ${KELYFOS_CACHE:-/var/cache/kelyfos}. Plain sh: it has to run before
# anything is installed.
set -eu

purpose=run
while [ $# -gt 0 ]; do
  case $1 in
    --for) purpose=${2:?--for what}; shift 2 ;;
    *) echo "usage: setup.sh [--for run|demo|test]" >&2; exit 2 ;;
  esac
done
case $purpose in run | demo | test) ;; *) echo "setup: unknown purpose: $purpose" >&2; exit 2 ;; esac

cd "$(dirname "$0")/.."
checkout=$(pwd)
KELYFOS_CACHE=${KELYFOS_CACHE:-/var/cache/kelyfos}
export KELYFOS_CACHE
crictl_version=1.36.0
containerd_version=2.2.1

packages='ca-certificates containernetworking-plugins e2fsprogs gcc iproute2 iptables libc6-dev
  qemu-system-x86 skopeo util-linux'
case $purpose in demo | test) packages="$packages busybox-static docker-registry" ;; esac
case $purpose in test) packages="$packages cpio nginx procps socat runc umoci" ;; esac

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

mkdir -p "$KELYFOS_CACHE" libexec
scratch=$(mktemp -d)
policy=/usr/sbin/policy-rc.d
policy_mark='# placed by kelyfos set-up'

restore_policy() {
  grep -qsF "$policy_mark" "$policy" || return 0
  if [ -e "$policy.kelyfos-saved" ]; then mv "$policy.kelyfos-saved" "$policy"; else rm -f "$policy"; fi
}
trap 'restore_policy; rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# One set-up at a time; the lock ends with this process.
exec 9>"$KELYFOS_CACHE/.setup.lock"
flock -n 9 || { say 'waiting for another set-up'; flock 9; }

# Runs a long step with its output kept back; shows the end of it when it fails.
quietly() {
  "$@" >"$scratch/log" 2>&1 9>&- && return 0
  tail -n 40 "$scratch/log" >&2
  return 1
}

# ---------------------------------------------------------------- Debian packages
missing=
for package in $packages; do
  case $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true) in
    ii*) ;;
    *) missing="$missing $package" ;;
  esac
done

install_packages() {
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing
}

if [ -n "$missing" ]; then
  [ "$(id -u)" = 0 ] || die "run as root, or install:$missing"
  say "installing Debian packages:$missing"
  # Packages such as docker-registry would start a service on a fixed port.
  restore_policy
  if [ -e "$policy" ]; then mv "$policy" "$policy.kelyfos-saved"; fi
  printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" >"$policy"
  chmod 755 "$policy"
  # Package lists may be absent, or older than the archive: then once more with fresh ones.
  if ! install_packages >"$scratch/first-try" 2>&1 9>&-; then
    say 'updating the package lists'
    quietly apt-get -o DPkg::Lock::Timeout=300 update || die 'apt-get update failed'
    quietly install_packages || die 'apt-get install failed'
  fi
  restore_policy
fi

# ---------------------------------------------------------------- npm packages
# npm leaves what it has installed in node_modules/.package-lock.json.
npm_is_current() {
  [ -x node_modules/.bin/node ] && [ -e node_modules/.package-lock.json ] && node - <<'EOF'
const { readFileSync } = require('node:fs');
const read = (path) => JSON.parse(readFileSync(path, 'utf8')).packages;
const [wanted, present] = [read('package-lock.json'), read('node_modules/.package-lock.json')];
const right = ([path, { version, optional, link }]) =>
  path === '' || link || present[path]?.version === version || (optional && !present[path]);
process.exit(Object.entries(wanted).every(right) ? 0 : 1);
EOF
}
for program in node npm cargo; do
  command -v "$program" >/dev/null || die "$program is needed and not there"
done
if ! npm_is_current; then
  say 'installing npm packages'
  # Not `npm ci`: it refuses a lock file without the binaries of other platforms, and registries
  # that mirror only some platforms can make no other. With --no-save the lock file stays as it is.
  quietly npm install --no-save --prefer-offline --no-audit --no-fund || die 'npm install failed'
  npm_is_current || die 'npm left other packages than the lock file names'
fi
node=$checkout/node_modules/.bin/node

# ---------------------------------------------------------------- generated code
"$node" scripts/generate.ts 9>&- || die 'generation failed'

# ---------------------------------------------------------------- agent, jailer, networker, unpacker
target=$(sed -n 's/^target = "\(.*\)"$/\1/p' .cargo/config.toml)
built=${CARGO_TARGET_DIR:-$checkout/target}/$target/release
[ -x "$built/kelyfos-networker" ] || say 'building agent, jailer, networker and unpacker (a few minutes)'
# Cargo knows best what is stale, and answers in a blink when nothing is.
quietly cargo build --release --locked --workspace --bins || die 'cargo build failed'
for program in kelyfos-agent kelyfos-jailer kelyfos-networker kelyfos-unpacker; do
  ln -sfn "$built/$program" "libexec/$program"
done

# ---------------------------------------------------------------- mkfs.erofs
scripts/build-erofs-utils >"$scratch/erofs" 9>&- || die 'building erofs-utils failed'

# ---------------------------------------------------------------- guest image
if [ -x guest/image/build ]; then
  guest/image/build >"$scratch/guest" 9>&- || die 'building the guest image failed'
fi

# ---------------------------------------------------------------- crictl and containerd
# build_go_module MODULE VERSION VERSION_VARIABLE FOLDER COMMAND...: the commands of a Go module, built as the
# module is, in its own folder: its go.mod may have replacements, which `go install` refuses.
build_go_module() {
  module=$1 version=$2 variable=$3 folder=$4
  shift 4
  command -v go >/dev/null || die "go (1.26 or later) is needed to build $* for the tests"
  say "building $* $version (a few minutes)"
  go mod download -json "$module@v$version" >"$scratch/module.json" 9>&- || die "cannot download the source of $module"
  source=$("$node" -p 'JSON.parse(require("fs").readFileSync(process.argv[1])).Dir' "$scratch/module.json")
  rm -rf "$folder.new"
  mkdir -p "$folder.new"
  for program in "$@"; do
    quietly env CGO_ENABLED=0 go -C "$source" build -mod=readonly -ldflags "-X $variable=$version" \
      -o "$folder.new/$program" "./cmd/$program" || die "building $program failed"
  done
  rm -rf "$folder"
  mv "$folder.new" "$folder"
}

if [ "$purpose" = test ]; then
  crictl=$KELYFOS_CACHE/crictl-$crictl_version
  [ -x "$crictl/crictl" ] ||
    build_go_module sigs.k8s.io/cri-tools "$crictl_version" sigs.k8s.io/cri-tools/pkg/version.Version "$crictl" crictl
  ln -sfn "$crictl/crictl" libexec/crictl

  containerd=$KELYFOS_CACHE/containerd-$containerd_version
  [ -x "$containerd/ctr" ] ||
    build_go_module github.com/containerd/containerd/v2 "$containerd_version" \
      github.com/containerd/containerd/v2/version.Version "$containerd" containerd containerd-shim-runc-v2 ctr
  ln -sfn "$containerd" libexec/containerd

  scripts/build-critest >"$scratch/critest" 9>&- || die 'building critest failed'
  scripts/build-busybox >"$scratch/busybox" 9>&- || die 'building busybox failed'
  scripts/build-stream-client >"$scratch/stream-client" 9>&- || die 'building the streaming client failed'
fi

say 'ready'
