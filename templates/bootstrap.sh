#!/usr/bin/env bash
# Makes the Python of one node out of wheels on S3, and on the primary node the timer that ends
# the cluster. EMR runs it as hadoop on every node, before it installs applications.
#
#   bootstrap.sh --digest DIGEST --wheels s3://BUCKET/FOLDER/ [--wheels ...] --region REGION
#                [--max-lifetime-min MINUTES]
#
# DIGEST is the sha256 of the folders' lock.txt, one after the other, cut to 32 characters. Once
# /opt/fruits/DIGEST is there, a second run does nothing. What goes wrong is the last line of
# stderr, and an exit code that ends the node. FRUITS_ROOT is a folder that stands for /.
set -euo pipefail
shopt -s nullglob
umask 022

root=${FRUITS_ROOT:-}
home=$root/opt/fruits
digest='' region='' lifetime_min='' folders=()
# Folders of this run alone.
scratch='' making=''

fail() {
    printf 'bootstrap.sh: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ -n "$root" ] || [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# shellcheck disable=SC2317  # A trap calls it.
clean_up() {
    rm -rf ${scratch:+"$scratch"} ${making:+"$making"}
}

# Fails with what a command said: that a disk is full, else its last words.
explain() {
    local doing=$1 words=$2 fullest
    case $words in
        *'No space left on device'* | *'Disk quota exceeded'*)
            fullest=$(df --output=avail,target "$scratch" "$home" | tail -n +2 | sort -n | head -n 1)
            fail "$doing: no space left on the disk of ${fullest##* }"
            ;;
    esac
    fail "$doing: $(grep -v '^[[:space:]]*$' <<< "$words" | tail -n 1 || true)"
}

# Runs a command, its words on stdout.
attempt() {
    local doing=$1 words
    shift
    if words=$("$@" 2>&1); then
        printf '%s' "${words:+$words$'\n'}"
    else
        printf '%s\n' "$words"
        explain "$doing" "$words"
    fi
}

# Copies from S3: what is not there is not asked for again, a refusal or a lost connection is.
fetch() {
    local delay_s words
    for delay_s in 2 4 8 16 ''; do
        if words=$(aws s3 cp --only-show-errors "$@" 2>&1); then return; fi
        printf '%s\n' "$words"
        case $words in
            *'(404)'* | *NoSuchKey* | *NoSuchBucket*) fail "$1 is not in the bucket." ;;
            *'No space left on device'*) break ;;
        esac
        if [ -n "$delay_s" ]; then sleep "$delay_s"; fi
    done
    explain "$1 could not be fetched" "$words"
}

read_arguments() {
    while [ $# -gt 1 ]; do
        case $1 in
            --digest) digest=$2 ;;
            --wheels) folders+=("${2%/}") ;;
            --region) region=$2 ;;
            --max-lifetime-min) lifetime_min=$2 ;;
            *) fail "$1 is no argument of it." ;;
        esac
        shift 2
    done
    if [ $# -gt 0 ] || [ -z "$digest" ] || [ -z "$region" ] || [ ${#folders[@]} = 0 ]; then
        fail 'it wants --digest, --wheels and --region, each with a value.'
    fi
}

is_primary() {
    grep -qs '"isMaster"[[:space:]]*:[[:space:]]*true' "$root/mnt/var/lib/info/instance.json"
}

# Asks EMR to end this node's own cluster; where that fails, the primary node goes down, and the
# cluster with it. --dry-run says what would be done.
# shellcheck disable=SC2317  # The timer calls it, out of a file of its own.
end_cluster() {
    local region=$1 cluster
    cluster=$(grep -Eo '"jobFlowId"[[:space:]]*:[[:space:]]*"j-[A-Z0-9]+"' \
        "$root/mnt/var/lib/info/job-flow.json" | grep -Eo 'j-[A-Z0-9]+') || cluster=''
    local ask=(aws emr terminate-clusters --region "$region" --cluster-ids "$cluster")
    if [ "${2:-}" = --dry-run ]; then
        echo "${cluster:+${ask[*]} || }shutdown -h now"
        return
    fi
    if [ -n "$cluster" ]; then
        for _ in 1 2 3; do
            if "${ask[@]}"; then return; fi
            sleep 10
        done
    fi
    shutdown -h now
}

write_as_root() {
    as_root mkdir -p "${1%/*}"
    as_root tee "$1" > /dev/null
}

# Counted from the boot, at which the bill begins too.
start_lifetime() {
    local ender=/usr/local/sbin/fruits-end-cluster units=$root/etc/systemd/system
    if [ -e "$units/fruits-lifetime.timer" ]; then return; fi
    {
        printf '#!/usr/bin/env bash\nset -euo pipefail\nroot=%q\n' "$root"
        declare -f end_cluster
        printf 'end_cluster %q "$@"\n' "$region"
    } | write_as_root "$root$ender"
    as_root chmod 755 "$root$ender"
    write_as_root "$units/fruits-lifetime.service" << UNIT
[Unit]
Description=End of this fruits cluster

[Service]
Type=oneshot
ExecStart=$ender
UNIT
    write_as_root "$units/fruits-lifetime.timer" << UNIT
[Unit]
Description=Longest lifetime of this fruits cluster

[Timer]
OnBootSec=${lifetime_min}min
Unit=fruits-lifetime.service

[Install]
WantedBy=timers.target
UNIT
    if [ -n "$root" ]; then
        attempt 'the lifetime timer was not set' systemctl --root="$root" enable fruits-lifetime.timer
    else
        attempt 'systemd did not read its units' as_root systemctl daemon-reload
        attempt 'the lifetime timer was not set' as_root systemctl enable --now fruits-lifetime.timer
    fi
}

find_python() {
    python=$root/usr/bin/python3.11
    if [ ! -x "$python" ]; then
        attempt 'python3.11 is not on this node, and dnf did not install it' \
            as_root dnf install -y --quiet python3.11
    fi
    if [ ! -x "$python" ]; then
        fail 'python3.11 is not on this node.'
    fi
}

fetch_wheels() {
    local folder
    mkdir "$scratch/wheels"
    for folder in "${folders[@]}"; do
        fetch "$folder/lock.txt" "$scratch/part.txt"
        cat "$scratch/part.txt" >> "$scratch/lock.txt"
    done
    if [ "$(sha256sum "$scratch/lock.txt" | cut -c 1-32)" != "$digest" ]; then
        fail "the lock in ${folders[*]} is not that of $digest."
    fi
    for folder in "${folders[@]}"; do
        fetch "$folder/" "$scratch/wheels/" --recursive --exclude '*' --include '*.whl'
    done
}

check_wheels() {
    local wheel sum sums='' pin option
    for wheel in "$scratch"/wheels/*.whl; do
        sum=$(sha256sum "$wheel" | cut -d ' ' -f 1)
        if ! grep -q "sha256:$sum" "$scratch/lock.txt"; then
            fail "the wheel ${wheel##*/} is broken: its sha256 is not in the lock."
        fi
        sums+=" $sum"
    done
    while read -r pin option; do
        if [[ $pin == *==* && $sums != *"${option#--hash=sha256:}"* ]]; then
            fail "the wheel of $pin is not in ${folders[*]}."
        fi
    done < "$scratch/lock.txt"
}

# Beside its place, into which it is moved whole: no node has half of a Python.
make_python() {
    local venv=$home/$digest modules
    making=$(mktemp -d "$home/making.XXXXXX")
    attempt 'python3.11 did not make a venv' "$python" -m venv --without-pip "$making"
    attempt 'pip did not install the wheels' env PIP_CONFIG_FILE=/dev/null TMPDIR="$scratch" \
        "$making/bin/python" "$(echo "$scratch"/wheels/pip-*.whl)/pip" install --isolated --quiet \
        --no-index --no-deps --require-hashes --only-binary :all: --no-cache-dir \
        --disable-pip-version-check --no-warn-script-location \
        --find-links "$scratch/wheels" --requirement "$scratch/lock.txt"
    read -ra modules <<< "$(sed -n 's/^# imports: //p' "$scratch/lock.txt" | tr '\n' ' ')"
    # Telemetry is left out of the lock, as the job leaves it out of its process.
    attempt 'the packages cannot be imported' "$making/bin/python" -I -c \
        'import importlib, sys
sys.modules["openvino_telemetry"] = None
for name in sys.argv[1:]:
    importlib.import_module(name)' "${modules[@]}"
    find "$making/bin" "$making/pyvenv.cfg" -type f -exec sed -i "s|$making|$venv|g" {} +
    mv "$scratch/lock.txt" "$making/lock.txt"
    chmod 755 "$making"
    mv -T "$making" "$venv"
}

main() {
    read_arguments "$@"
    export AWS_DEFAULT_REGION=$region
    if [ -n "$lifetime_min" ] && is_primary; then start_lifetime; fi
    if [ -e "$home/$digest/lock.txt" ]; then
        echo "$home/$digest is there already."
        return
    fi
    as_root install -d -o "$(id -un)" "$home"
    if [ ! -d "$root/mnt/tmp" ]; then as_root install -d -m 1777 "$root/mnt/tmp"; fi
    trap clean_up EXIT
    scratch=$(mktemp -d "$root/mnt/tmp/fruits.XXXXXX")
    find_python
    fetch_wheels
    check_wheels
    make_python
    echo "$home/$digest was made."
}

main "$@"
