# Sourced by the scripts that build a program from the source package of a Debian release other than
# this machine's. The package is fetched through an apt root of its own, so neither the sources nor
# the package lists of this machine change.
#
# Expects $version, $suite, $build_packages; gives $checkout, $cache, `say`, `run`, `begin NAME SCRIPT`
# and `fetch_source PACKAGE`.

checkout=$(cd "$(dirname "$0")/.." && pwd)
cache=${KELYFOS_CACHE:-/var/cache/kelyfos}
# shellcheck source=/dev/null
release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")

say() { printf '%s\n' "$name: $*" >&2; }

# begin NAME SCRIPT: sets $target, where the result belongs in the cache, keyed by the script and the
# machine, and holds the lock of this build from here on.
begin() {
  name=$1
  key=$({ cat "$2" "$checkout/scripts/debian-source.sh" && uname -m && echo "$release"; } | sha256sum | cut -c1-12)
  target=$cache/$name-$version-$key
  mkdir -p "$cache"
  exec 9>"$cache/.$name.lock"
  flock 9
}

# Keeps the output back; shows the end of it when the command fails, and ends.
run() {
  if ! "$@" >>"$log" 2>&1; then
    tail -n 40 "$log" >&2
    say "failed: $*"
    exit 1
  fi
}

private_apt() {
  apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::SourceList="$work/apt/sources.list" \
    -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
    -o Dir::State::Lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" "$@"
}

# fetch_source PACKAGE: installs what the build needs, unpacks the source and changes into its folder.
# Sets $work, a folder that goes when the script ends.
fetch_source() {
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM
  log=$work/log

  missing=
  for package in $build_packages; do
    state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    case $state in ii*) ;; *) missing="$missing $package" ;; esac
  done
  if [ -n "$missing" ]; then
    say "installing$missing"
    run apt-get -qq -o DPkg::Lock::Timeout=300 update
    # shellcheck disable=SC2086
    run env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing
  fi

  # The mirror that this machine uses for its own release serves the next one too.
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v release="$release" '$2 == release && $3 == "main" { print $1; exit }')
  if [ -z "$mirror" ]; then
    say "no apt source of $release/main found on this machine to take the mirror from"
    exit 1
  fi

  say "fetching the source of $version"
  mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/source"
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  printf 'deb-src [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$work/apt/sources.list"
  run private_apt update
  cd "$work/source"
  run private_apt source "$1"
  cd "$work/source/$1-$version" || {
    say "$suite has another version than $version: $(ls "$work/source")"
    exit 1
  }
}
