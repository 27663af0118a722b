#!/usr/bin/env bash
# What the lab, the tests and the benches need of Debian or Ubuntu beyond Node. As root there, installs what is
# missing; anywhere else names it, one by one, with what to do, and exits with 3. Silent if nothing is missing.
#
#   deploy/prerequisites.sh lab [scenario [option ...]]
#   deploy/prerequisites.sh test|bench

set -euo pipefail

# The administrator's tools are often not in an ordinary user's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

lab='ip:iproute2 nft:nftables ping:iputils-ping traceroute:traceroute setpriv:util-linux'
# Servers and clients of the lab's scenario `ftp`. A package without a program is known by a file.
pyftpdlib=/usr/lib/python3/dist-packages/pyftpdlib/__main__.py:python3-pyftpdlib
ftp="vsftpd:vsftpd $pyftpdlib lftp:lftp curl:curl ngircd:ngircd in.tftpd:tftpd-hpa tftp:tftp-hpa"

case "${1:-}" in
  lab)
    tools="$lab"
    # What the lab is asked for, in whatever order: only a scenario that needs more is of interest here.
    for word in "${@:2}"; do
      [ "$word" != ftp ] || tools="$lab $ftp"
    done
    ;;
  test)
    tools="$lab $ftp promtool:prometheus conntrack:conntrack unbound:unbound tc:iproute2 python3:python3"
    tools="$tools systemd-analyze:systemd"
    ;;
  bench) tools="$lab conntrack:conntrack iperf3:iperf3" ;;
  *)
    echo "usage: $0 lab|test|bench [what the lab is asked for]" >&2
    exit 2
    ;;
esac

missing=()
packages=()
for entry in $tools; do
  if ! command -v "${entry%%:*}" > /dev/null && [ ! -f "${entry%%:*}" ]; then
    missing+=("${entry%%:*}")
    packages+=("${entry#*:}")
  fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
  for i in "${!missing[@]}"; do
    echo "missing: ${missing[$i]}, of Debian's package ${packages[$i]}" >&2
  done
  echo "install with: apt-get install --no-install-recommends ${packages[*]}" >&2
  exit 3
fi

echo "installing ${packages[*]}"

# Only programs are wanted: a service that a package brings (prometheus and vsftpd do, among others) stays off. Where an administrator has a
# policy of their own, theirs holds.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod 755 "$policy"
fi

log="$(mktemp)"
if ! {
  apt-get update &&
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${packages[@]}"
} > "$log" 2>&1 < /dev/null; then
  cat "$log" >&2
  rm -f "$log"
  echo "could not install: ${packages[*]}" >&2
  exit 3
fi
rm -f "$log"
