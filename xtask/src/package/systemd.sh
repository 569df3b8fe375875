# Under a real systemd: the unit starts, reloads, is restarted, keeps its guard, and goes.
logged() { journalctl --unit hookgate --output cat | grep "$1"; }

echo "on Linux $(uname -r), systemd $(systemctl --version | sed -n 's/^systemd //p')"
check installs dpkg -i /run/first.deb
check is_not_started_yet not systemctl is-active hookgate
sed -i 's/^domains = .*/domains = ["proxy.example.com"]/' $toml
check upstream_add hookgate upstream add --address 127.0.0.1:9 --no-probe chatwoot.example.com
check enables_and_starts systemctl enable --now hookgate
check is_active active
parent=$(main)
check parent_is_hookgate runs_as "$parent" hookgate
check worker_is_another runs_as "$(worker)" hookgate-worker
check worker_may_nothing equal "$(line "$(worker)" CapPrm)" 0000000000000000
check no_upstream_is_404 answers / 404
check unknown_host_is_403 answers /other.example.com/x 403
check allowed_host_is_502_while_it_is_down answers /chatwoot.example.com/x 502
check command_line_reaches_it hookgate reload
check socket_is_the_admins mode /run/hookgate/admin.sock 'hookgate:hookgate-admin 660'
check leaves_no_core equal "$(awk '/^Max core file size/ {print $5, $6}' "/proc/$(worker)/limits")" '0 0'
check reloads systemctl reload hookgate
check is_active_after_a_reload retry_until 20 active
check journal_takes_every_line equal "$(systemctl show --property LogRateLimitIntervalUSec --value hookgate)" 0
check is_hardened systemd-analyze security --no-pager --threshold=20 hookgate
tail -n 1 /run/said

guard_lo
check restarts systemctl restart hookgate
check guard_is_attached guarded
check pins_are_the_users_alone mode /sys/fs/bpf/hookgate/program 'hookgate:hookgate 600'
check handshakes_are_counted_too test -e /sys/fs/bpf/hookgate/handshakes
check serves_with_the_guard answers /chatwoot.example.com/x 502

parent=$(main)
# In this order: one that is active may be about to end.
check dies kill -KILL "$parent"
check is_started_again retry_until 60 another_is_active

# Hanging
parent=$(main)
kill -STOP "$(worker)"
check one_that_hangs_is_started_again retry_until 100 another_is_active
check because_of_the_watchdog logged 'Watchdog timeout'

# Upgrading
invocation() { systemctl show --property InvocationID --value hookgate; }
check receiver_starts start_receiver
check receiver_is_added hookgate upstream add --address 127.0.0.1:3000 --no-tls --no-probe receiver.example.com
check allowed_host_is_200_while_it_is_up answers /receiver.example.com/x 200
parent=$(main) before=$(invocation)
check load_starts start_load /receiver.example.com/webhooks
check upgrades dpkg -i /run/second.deb
check runs_another another_is_active
check which_is_the_new_binary equal "$(readlink "/proc/$(main)/exe")" /usr/bin/hookgate
check without_a_restart equal "$(invocation)" "$before"
check former_one_ends retry_until 60 not test -e "/proc/$parent"
check upgrade_failed_no_request stop_load 20
cat /run/said
parent=$(main)
sleep 40
check watchdog_hears_the_new_one equal "$(main)" "$parent"
check new_one_reloads systemctl reload hookgate
check guard_is_still_attached guarded
check a_request_is_under_way hold
systemctl stop --no-block hookgate
sleep 2
check new_one_waits_for_it equal "$(systemctl is-active hookgate)" deactivating
let_go
check what_was_under_way_ended equal "$(cat /run/answer)" 200
check new_one_stops systemctl stop hookgate
check new_one_ended_well equal "$(systemctl show --property Result --value hookgate)" success
check starts_again systemctl start hookgate

# A new process that dies while the old one still drains
parent=$(main)
check a_request_is_under_way hold
kill -USR2 "$parent"
check takes_over retry_until 20 another_is_active
old=$parent parent=$(main)
# Before the new one dies: systemd ends what is left of the service then.
check old_one_is_still_there test -e "/proc/$old"
check dies_early kill -KILL "$parent"
check another_is_started_at_once retry_until 10 another_is_active
let_go
parent=$(main)

# Upgrading with a configuration that the new version does not take
echo nonsense >>$toml
check upgrades_all_the_same dpkg -i /run/first.deb
cp /run/said /run/postinst
check says_that_the_former_one_goes_on grep -q 'the version before goes on' /run/postinst
check and_it_does equal "$(main)" "$parent"
check serves_as_before answers /chatwoot.example.com/x 502
sed -i '$d' $toml

# Upgrading one that cannot be taken over from: its binary has gone
mkdir /run/systemd/system/hookgate.service.d
mkdir /run/old && cp /usr/bin/hookgate /run/old
printf '[Service]\nExecStart=\nExecStart=/run/old/hookgate run\n' >/run/systemd/system/hookgate.service.d/old.conf
systemctl daemon-reload
check runs_from_elsewhere systemctl restart hookgate
parent=$(main) before=$(invocation)
rm -r /run/old /run/systemd/system/hookgate.service.d
check upgrades_that_too dpkg -i /run/second.deb
cp /run/said /run/postinst
check says_that_it_restarts grep -q 'did not take over.*restarting' /run/postinst
check has_been_restarted not equal "$(invocation)" "$before"
check serves_again answers /chatwoot.example.com/x 502

# Without IPv6, as far as the service can see
mkdir /run/systemd/system/hookgate.service.d
printf '[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_INET AF_UNIX AF_NETLINK\n' \
    >/run/systemd/system/hookgate.service.d/ipv4.conf
systemctl daemon-reload
check starts_without_ipv6 systemctl restart hookgate
check says_what_it_leaves_out logged 'not listening on \[::\]:443: this machine has no IPv6'
check serves_without_ipv6 answers /chatwoot.example.com/x 502
rm -r /run/systemd/system/hookgate.service.d
systemctl daemon-reload
check stops systemctl stop hookgate
check ended_well equal "$(systemctl show --property Result --value hookgate)" success
check guard_outlives_it guarded
check starts_over_its_pins systemctl start hookgate
systemctl stop hookgate

# Started by the first connection
check socket_unit_starts systemctl enable --now hookgate.socket
check it_alone not active
check first_connection_starts_it answers / 404
check is_active_by_then active
check load_starts start_load /receiver.example.com/webhooks
check restarts systemctl restart hookgate
check connections_wait_meanwhile stop_load 20
cat /run/said
check load_starts start_load /receiver.example.com/webhooks
parent=$(main) before=$(invocation)
check upgrades dpkg -i /run/first.deb
check runs_another another_is_active
check without_a_restart equal "$(invocation)" "$before"
check former_one_ends retry_until 60 not test -e "/proc/$parent"
check upgrade_failed_no_request stop_load 20
cat /run/said
check purges dpkg -P hookgate
check guard_is_gone unguarded
check unit_is_gone not systemctl cat hookgate
check users_are_gone not getent passwd hookgate hookgate-worker
journalctl --unit hookgate --output cat --no-pager | head -n 60
