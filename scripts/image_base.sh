#!/bin/sh
# Takes the parts of a Debian that the worker runs on out of it: image_base.sh DEBIAN TARGET.
#
# They are packages of gcr.io/distroless/cc-debian12, recorded in var/lib/dpkg/status.d as there, so that
# scanners and scripts/sbom.py know what they see. No shell, no package manager.
set -eu

debian=$1 target=$2
mkdir -p "$target/usr" "$target/var/lib/dpkg/status.d" "$target/etc/ssl/certs" "$target/tmp" "$target/home/nonroot" \
    "$target/proc" "$target/sys" "$target/dev"
chmod 1777 "$target/tmp"
for name in bin sbin lib lib64; do
    mkdir -p "$target/usr/$name"
    ln -s "usr/$name" "$target/$name"
done
for package in base-files libc6 libgcc-s1 libstdc++6; do
    listing=$(find "$debian/var/lib/dpkg/info" -name "$package.list" -o -name "$package:*.list")
    # Conversions among character sets, the loader's own tools and documents are never read.
    grep -v -E '/gconv/|/share/(doc|man|locale|lintian|gdb|bug|info)/.*[^t]$|^/(usr/)?s?bin/' "$listing" | while read -r path; do
        [ -d "$debian$path" ] && [ ! -L "$debian$path" ] || (cd "$debian" && cp -a --parents ".$path" "$target")
    done
    sed -n "/^Package: $package\$/,/^\$/p" "$debian/var/lib/dpkg/status" >"$target/var/lib/dpkg/status.d/$package"
done
# Debian's own certificates; those of the machine that builds have no place in an image.
cat "$debian"/usr/share/ca-certificates/mozilla/*.crt >"$target/etc/ssl/certs/ca-certificates.crt"
sed -n '/^Package: ca-certificates$/,/^$/p' "$debian/var/lib/dpkg/status" >"$target/var/lib/dpkg/status.d/ca-certificates"
echo 'root:x:0:0:root:/root:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >"$target/etc/passwd"
echo 'root:x:0:
nonroot:x:65532:' >"$target/etc/group"
echo 'hosts: files dns' >"$target/etc/nsswitch.conf"
chown 65532:65532 "$target/home/nonroot"
