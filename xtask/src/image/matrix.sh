# What is missing, alone and all together: whether it serves, whether the guard runs, and what the log says.
capabilities=$(python3 -c 'import sys, yaml
print(*yaml.safe_load(open(sys.argv[1]))["services"]["hookgate"]["cap_add"])' "$packaging/compose.yaml")
with() { for capability in $1; do printf -- '--cap-add %s ' "$capability"; done; }
without() { echo "$capabilities" | tr ' ' '\n' | grep -vx "$1" | tr '\n' ' '; }
folder="--volume $dir/hookgate:/etc/hookgate"
state="--volume $dir/state:/var/lib/hookgate"
bpf="--volume /sys/fs/bpf:/sys/fs/bpf"
run="--tmpfs /run/hookgate:mode=0750"
filter="--security-opt seccomp=$dir/seccomp.json"
host="--network host --read-only --read-only-tmpfs=false --cap-drop ALL"
rows=

# row MISSING PORT SERVES GUARD SAYS ARGUMENTS…: SERVES is yes or no, GUARD is attached or no; SAYS is in the log.
row() {
    missing=$1 port=$2 serves=$3 guard=$4 text=$5
    shift 5
    configure "$port"
    rm -rf state /sys/fs/bpf/hookgate
    mkdir --mode 700 state
    begin "$@" >started 2>&1
    label=without_$(printf %s "$missing" | tr -cs 'A-Za-z0-9' _)
    case $serves in
    yes) check "${label}_serves" within 20 ask "$port" ;;
    no) check "${label}_does_not_start" within 20 ended ;;
    esac
    case $guard in
    attached) check "${label}_guard" within 10 attached ;;
    no) check "${label}_no_guard" sh -c '! ls /sys/fs/bpf/hookgate' ;;
    esac
    [ -z "$text" ] || check "${label}_says" within 5 says "$text"
    rows="$rows| $missing | $serves | $guard | ${text:+\`$text\`} |
"
    end >/dev/null 2>&1
}
ended() { [ "$(engine inspect --format '{{.State.Status}}' hookgate)" = exited ]; }

full=$(with "$capabilities")
row "(nothing is missing)" 443 yes attached '' $host $full $filter $folder $state $bpf $run
row NET_BIND_SERVICE 443 no no 'ports below 1024 need root or the capability CAP_NET_BIND_SERVICE' \
    $host $(with "$(without NET_BIND_SERVICE)") $filter $folder $state $bpf $run
row "NET_BIND_SERVICE, port 8443" 8443 yes attached '' \
    $host $(with "$(without NET_BIND_SERVICE)") $filter $folder $state $bpf $run
for capability in SETUID SETGID; do
    row $capability 443 yes attached "the process that serves stays root's, without any capability" \
        $host $(with "$(without $capability)") $filter $folder $state $bpf $run
done
for capability in NET_ADMIN BPF PERFMON; do
    row $capability 443 yes no "and lacks CAP_$capability" \
        $host $(with "$(without $capability)") $filter $folder $state $bpf $run
done
row "all six, port 8443" 8443 yes no 'and lacks CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN' $host $filter $folder $state $bpf $run
row "bpf(2), by the engine's seccomp filter" 443 yes no 'BPF is not allowed here although the process has the capabilities' \
    $host $full $folder $state $bpf $run
row "/sys/fs/bpf" 443 yes no '/sys/fs/bpf is not mounted' $host $full $filter $folder $state $run
row "/var/lib/hookgate" 443 yes attached '/var/lib/hookgate/insight on no volume' $host $full $filter $folder $bpf $run
row "/run/hookgate" 443 no no 'admin.socket: cannot write in /run/hookgate: Read-only file system' $host $full $filter $folder $state $bpf
row "everything, port 8443" 8443 yes no 'and lacks CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN' --network host --cap-drop ALL $folder

# A bridge network, whose NAT puts an address of its own in the place of Meta's.
nft add table ip nat
nft add chain ip nat before '{ type nat hook prerouting priority -100 ; }'
nft add chain ip nat after '{ type nat hook postrouting priority 100 ; }'
nft add rule ip nat before iifname wan0 tcp dport 443 dnat to 10.88.0.2
nft add rule ip nat after oifname pod0 masquerade
sysctl -qw net.ipv4.ip_forward=1
bridge="--network ns:/proc/$pod/ns/net --read-only --read-only-tmpfs=false --cap-drop ALL"
hidden="on a bridge network (eth0, 10.88.0.2): Meta's addresses are hidden"
row "network_mode: host, on a bridge" 443 yes attached "$hidden" $bridge $full $filter $folder $state $bpf $run
rm -rf /sys/fs/bpf/hookgate
begin $bridge $full $filter $folder $state $run >started 2>&1
check bridge_hides_metas_address within 20 comes_from 10.88.0.1
inside doctor >said 2>&1
check doctor_warns grep -F "warn  where it runs: $hidden" said
end >/dev/null 2>&1
nft delete table ip nat

# The control group of an earlier container has gone, and with it what its pinned link was on.
cgroups=/sys/fs/cgroup
# They belong to the machine, and would outlive the test.
trap 'rmdir "$cgroups/${dir##*/}"-* 2>/dev/null' EXIT
begin_in() {
    group_of_its_own="$cgroups/${dir##*/}-$1"
    mkdir "$group_of_its_own"
    (
        sh -c 'echo $PPID >"$0/cgroup.procs"' "$group_of_its_own"
        begin --cgroupns private $host $full $filter $folder $state $bpf $run
    )
}
gone() { rmdir "$group_of_its_own" 2>/dev/null; }
rm -rf state /sys/fs/bpf/hookgate
mkdir --mode 700 state
configure 443
begin_in 1 >started 2>&1
check first_container within 20 ask
check first_container_counts_handshakes within 10 handshakes
is_on_its_own() {
    bpftool --json link show pinned /sys/fs/bpf/hookgate/handshakes >link &&
        grep -q "\"cgroup_id\":$(stat --format %i "$group_of_its_own")" link || { cat link && return 1; }
}
check its_link_is_on_its_control_group is_on_its_own
counted_before=$(counted handshakes)
end >/dev/null 2>&1
check its_control_group_goes within 20 gone
begin_in 2 >started 2>&1
more() { ask >/dev/null && [ "$(counted handshakes)" -gt "$counted_before" ]; }
check second_container_counts_handshakes_again within 20 more
counts() { ! says 'handshakes are not counted'; }
check and_says_nothing counts
check the_new_link_is_on_the_new_control_group is_on_its_own
end >/dev/null 2>&1
retry_until 20 gone
rm -rf /sys/fs/bpf/hookgate

printf '\n| without | serves | guard | log |\n| --- | --- | --- | --- |\n%s\n' "$rows"
documented() { ! printf %s "$rows" | grep -vxF -f "$packaging/../docs/install.md"; }
check install_md_has_these_rows documented
ran image "$engines" "compose up, each capability and volume missing, a bridge network, a new control group"
