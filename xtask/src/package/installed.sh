# Installs, uses, upgrades, removes and purges the package.
files() { find / -xdev -path /var/lib/dpkg -prune -o -path /var/log -prune -o -path /var/cache -prune -o -print | sort; }
files >/run/before

# Installing
check installs dpkg -i /run/first.deb
cp /run/said /run/postinst
check says_what_to_do_next grep -q 'name this machine in /etc/hookgate/hookgate.toml' /run/postinst
check configuration_is_readable mode $toml 'root:root 644'
check state_is_the_users_alone mode /var/lib/hookgate 'hookgate:hookgate 700'
check users_have_no_shell equal "$(getent passwd hookgate hookgate-worker | cut -d: -f7 | sort -u)" /usr/sbin/nologin
check worker_is_in_its_own_group_alone equal "$(id -Gn hookgate-worker)" hookgate-worker
check files_are_whole equal "$(dpkg --verify hookgate)" ""
check manual_is_there test -s /usr/share/man/man1/hookgate-upstream-add.1.gz
hookgate check >/run/check 2>&1
check check_refuses_it_as_it_is equal $? 1
check check_names_the_line_and_the_key grep -q "$toml:[0-9:]* acme.domains" /run/check
check unit_is_well_formed systemd-analyze --man=no verify hookgate.service hookgate.socket
check unit_is_hardened systemd-analyze security --offline=true --threshold=20 hookgate.service
tail -n 1 /run/said

# The one line, and an upstream
sed -i 's/^domains = .*/domains = ["proxy.example.com"]/' $toml
check check_is_content hookgate check
cp $toml /run/guarded
sed -i '/^\[guard\]/,/^$/d' $toml
check upstream_add hookgate upstream add --address 127.0.0.1:9 --no-probe chatwoot.example.com
systemd-tmpfiles --create hookgate.conf
check starts_as_its_user start
check socket_is_the_admins mode /run/hookgate/admin.sock 'hookgate:hookgate-admin 660'
check an_admin_reaches_it setpriv --reuid nobody --regid nogroup --groups "$(getent group hookgate-admin | cut -d: -f3)" \
    hookgate reload
check a_reader_of_keys_does_not not setpriv --reuid nobody --regid nogroup \
    --groups "$(getent group hookgate | cut -d: -f3)" hookgate reload
check parent_is_hookgate runs_as "$parent" hookgate
check worker_is_another runs_as "$(worker)" hookgate-worker
check worker_may_nothing equal "$(line "$(worker)" CapPrm)$(line "$(worker)" CapBnd)$(line "$(worker)" NoNewPrivs)" \
    "0000000000000000$(line "$parent" CapBnd)1"
# CAP_SETGID, CAP_SETUID and CAP_NET_BIND_SERVICE: nothing of the guard's, which is not configured.
check parent_keeps_three equal "$(line "$parent" CapPrm)" 00000000000004c0
check no_upstream_is_404 answers / 404
check unknown_host_is_403 answers /other.example.com/x 403
check allowed_host_is_502_while_it_is_down answers /chatwoot.example.com/x 502
check command_line_reaches_it hookgate reload
check reloads_on_a_signal kill -HUP "$parent"
check upstream_add_reloads hookgate upstream add --address 127.0.0.1:9 --no-probe second.example.com
check new_upstream_is_served retry_until 5 answers /second.example.com/x 502
check stops stop

# With the guard
sed -n '/^\[guard\]/,/^$/p' /run/guarded >>$toml
guard_lo
check starts_with_the_guard start
check guard_is_attached guarded
check pins_are_the_users_alone mode /sys/fs/bpf/hookgate/program 'hookgate:hookgate 600'
check parent_keeps_the_guards_too equal "$(line "$parent" CapPrm)" 000000c0000014c0
check serves_with_the_guard answers /chatwoot.example.com/x 502
check stops_again stop
check guard_outlives_it guarded
check starts_over_its_pins start
serving=$(worker)
check dies kill -KILL "$parent"
check what_serves_ends_with_its_parent retry_until 5 not test -e "/proc/$serving"

# Upgrading
sum=$(md5sum $toml)
check upgrades dpkg -i /run/second.deb
check edited_configuration_is_kept equal "$(md5sum $toml)" "$sum"
check upgrade_is_another_version equal "$(dpkg-query -W -f '${Version}' hookgate)" \
    "$(dpkg-deb -f /run/second.deb Version)"
check starts_after_the_upgrade start
check serves_after_the_upgrade answers /chatwoot.example.com/x 502
stop

# Removing and purging
check removes dpkg -r hookgate
check guard_is_gone unguarded
check configuration_stays test -f $toml
check purges dpkg -P hookgate
check users_are_gone not getent passwd hookgate hookgate-worker
check group_is_gone not getent group hookgate-admin
files >/run/after
# adduser keeps copies of what it changed.
check nothing_is_left sh -c 'diff /run/before /run/after | grep "^>" | grep -v -e "/etc/.*-$" -e /run/ -e /tmp/; test $? = 1'
