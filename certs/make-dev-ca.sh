#!/usr/bin/env bash
# Makes what mutual TLS needs: a device CA, a server certificate, a certificate for each phone.
#
#   make-dev-ca.sh DIRECTORY server NAME ADDRESS     the CA (where there is none yet) and server.pem, server.key
#   make-dev-ca.sh DIRECTORY device HARDWARE-ID      HARDWARE-ID.pem, HARDWARE-ID.key
#
# An existing key or certificate is never replaced. The CA's key (device-ca.key) can make phones that your PBX
# trusts: keep it off this machine once the certificates are made.
set -euo pipefail

usage() {
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 64
}

fail() {
    printf 'make-dev-ca.sh: %s\n' "$*" >&2
    exit 1
}

key() { # FILE
    openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"
}

ca() {
    [ -e device-ca.pem ] && return
    key device-ca.key
    openssl req -x509 -new -key device-ca.key -sha256 -days 7300 -subj "/CN=Portcullis device CA $(openssl rand -hex 4)" -out device-ca.pem \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
}

issue() { # FILE COMMON-NAME DAYS EXTENSIONS
    [ -e "$1.pem" ] && fail "$1.pem is there already"
    [ -e "$1.key" ] && fail "$1.key is there already"
    trap 'rm -f -- "'"$1"'.key" "'"$1"'.ext"' EXIT # what a failure leaves would stand in the way of the next try
    key "$1.key"
    printf '%s\n' "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" \
        "subjectKeyIdentifier=hash" "authorityKeyIdentifier=keyid" "$4" >"$1.ext"
    openssl req -new -key "$1.key" -subj "/CN=$2" |
        openssl x509 -req -CA device-ca.pem -CAkey device-ca.key -set_serial "0x$(openssl rand -hex 16)" \
            -days "$3" -sha256 -extfile "$1.ext" -out "$1.pem"
    trap - EXIT
    rm "$1.ext"
    echo "$1.pem"
}

# All is checked before anything is made, and before a relative path of this script leads nowhere.
case "${2-}:$#" in
server:4)
    case "$4" in
    *[!0-9a-fA-F.:]* | '') fail "after the server's name comes its IP address, not $4" ;;
    esac
    ;;
device:3)
    case "$3" in
    *[!0-9A-Za-z:.-]* | '') fail "a hardware ID has letters, digits, and : . - between them" ;;
    esac
    ;;
*) usage ;;
esac

umask 077
mkdir -p "$1"
cd "$1"
case "$2" in
server)
    ca
    issue server "$3" 825 $'extendedKeyUsage=serverAuth\nsubjectAltName=DNS:'"$3,IP:$4"
    ;;
device)
    [ -e device-ca.pem ] || fail "there is no CA in $1: make the server certificate first, in the same directory"
    issue "$3" "$3" 3650 "extendedKeyUsage=clientAuth"
    ;;
esac
