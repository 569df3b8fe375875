# On another processor, under a real systemd: installed, serving, and guarding. Meta is a network namespace behind a veth.

echo "on Linux $(uname -rm), systemd $(systemctl --version | sed -n 's/^systemd //p')"
ip netns add meta
ip link add wan0 type veth peer name wan0 netns meta
ip addr add 198.51.100.1/24 dev wan0
ip link set wan0 up
ip route add default dev wan0
ip -n meta addr add 157.240.1.1/32 dev wan0
ip -n meta addr add 203.0.113.9/32 dev wan0
ip -n meta link set lo up
ip -n meta link set wan0 up
ip -n meta route add default dev wan0
# from ADDRESS PATH: the status of the proxy's answer to a POST from there
from() {
    ip netns exec meta curl -sk --max-time 20 --interface "$1" -o /dev/null -w '%{http_code}' -d '{}' "https://198.51.100.1$2"
}
# stats EXPRESSION: of `row`, which are Meta's counts there, and of `stats`, which are all
stats() {
    hookgate stats --json | python3 -c 'import json, sys
stats = json.load(sys.stdin)
row = next(row for row in stats["prefixes"] if row["prefix"] == "157.240.0.0/17")
print(eval(sys.argv[1]))' "$1"
}
counted() { equal "$(stats "$1")" "$2"; }

# The stopwatch: the page's lines in /run/steps, typed one by one. An editor fills in the one line, and names lead to a
# receiver here.
nano() {
    sed -i 's/^domains = .*/domains = ["proxy.example.com"]/; s/^interfaces = "auto"/&\nrefresh = "off"/' "$1"
    name_authority
}
hookgate() {
    case "$*" in
    "upstream add "*) command hookgate "$@" --address 127.0.0.1:3000 --no-tls ;;
    *) command hookgate "$@" ;;
    esac
}
start_stopwatch
cd /run
cp first.deb "hookgate_$(dpkg-deb -f first.deb Version)_$(dpkg --print-architecture).deb"
while read -r line <&3; do
    type_in eval "$line"
done 3</run/steps
cd /
stop_stopwatch
unset -f nano hookgate

check is_for_this_processor equal "$(dpkg-query -W -f '${Architecture}' hookgate)" "$(dpkg --print-architecture)"
# The stopwatch's editor has changed the configuration.
check files_are_whole equal "$(dpkg --verify hookgate | grep -v ' /etc/hookgate/hookgate.toml *$')" ""
hookgate completions bash >/run/completions
check says_what_its_completions_say cmp /run/completions /usr/share/bash-completion/completions/hookgate
check sbom_has_its_checksum grep -q "$(sha256sum </usr/bin/hookgate | cut -d' ' -f1)" /usr/share/doc/hookgate/hookgate.spdx.json
check check_is_content hookgate check
check is_active active
check upstream_add hookgate upstream add --address 127.0.0.1:3000 --no-tls --no-probe receiver.example.com
parent=$(main)
check parent_is_hookgate runs_as "$parent" hookgate
check worker_is_another runs_as "$(worker)" hookgate-worker
check worker_may_nothing equal "$(line "$(worker)" CapPrm)" 0000000000000000
check worker_has_a_filter_of_calls equal "$(line "$(worker)" Seccomp)" 2

# Counting
attached() { hookgate guard status | grep "attached to wan0 ($1"; }
check guard_is_at_the_default_route attached tc
hookgate guard status
for _ in 1 2 3 4 5; do
    check webhook_is_delivered equal "$(from 157.240.1.1 /receiver.example.com/x)" 200
done
check strangers_webhook_is_delivered_too equal "$(from 203.0.113.9 /receiver.example.com/x)" 200
check every_handshake_is_counted retry_until 10 counted 'row["syns"], row["handshakes"], row["delivered"]' '(5, 5, 5)'
check none_failed counted 'row["handshakes_failed"], row["syns_retransmitted"], row["failed"]' '(0, 0, 0)'
check packets_are_counted counted 'row["packets"] > 5 * 6 and row["bytes"] > row["packets"] * 54' True
check stranger_is_counted counted 'stats["other"]["syns"]' 1
check delays_are_measured counted 'row["rtt_seconds"] is not None' True
check kernel_drops_are_read counted '"kernel_drops_uncounted" in stats["guard"]' False
# The stopwatch knocks until there is a certificate.
check lost_names_nothing_else equal "$(hookgate lost --json | python3 -c 'import json, sys
print({row["stage"] for row in json.load(sys.stdin)["stages"] if row["lost"]} - {"tls"})')" "set()"

# Connections that the sender ends with a reset
ip netns exec meta python3 -c '
import socket, struct
for _ in range(3):
    s = socket.socket()
    s.bind(("157.240.1.1", 0))
    s.connect(("198.51.100.1", 443))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()'
check resets_are_counted retry_until 10 counted 'row["syns"], row["handshakes"], row["rsts"] >= 3' '(8, 8, True)'

# Each way to attach, and dropping
for xdp in native generic; do
    sed -i "s/^xdp = .*/xdp = \"$xdp\"/" $toml
    check restarts_with_$xdp systemctl restart hookgate
    check guard_is_$xdp attached $xdp
    check delivers_with_$xdp equal "$(from 157.240.1.1 /receiver.example.com/x)" 200
done
sed -i 's/^mode = .*/mode = "strict"/; s/^xdp = .*/xdp = "tc"/' $toml
check restarts_in_strict_mode systemctl restart hookgate
check guard_is_tc_again attached tc
check meta_gets_through equal "$(from 157.240.1.1 /receiver.example.com/x)" 200
check strangers_do_not equal "$(ip netns exec meta curl -sk --max-time 3 --interface 203.0.113.9 -w '%{http_code}' https://198.51.100.1/)" 000
check what_was_dropped_is_counted counted 'stats["other"]["dropped_by"]["strict"] > 0' True

# Upgrading
check load_starts start_load /receiver.example.com/webhooks
parent=$(main)
check upgrades dpkg -i /run/second.deb
check runs_another another_is_active
check former_one_ends retry_until 60 not test -e "/proc/$parent"
check upgrade_failed_no_request stop_load 20
cat /run/said
check guard_is_still_attached attached tc

# Removing
check purges dpkg -P hookgate
check guard_is_gone not test -e /sys/fs/bpf/hookgate
check configuration_is_gone not test -e /etc/hookgate

ran arm64 "$system, emulated" "$measured; the guard in each way to attach and in strict, upgraded under load, purged"
