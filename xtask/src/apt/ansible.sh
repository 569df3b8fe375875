# packaging/ansible sets this machine up, and changes nothing when it is run again.
offline
publish after
check is_served serve
cp -r /srv/test/packaging/ansible /run/ansible
cd /run/ansible
cp /srv/www/hookgate/hookgate.asc .
printf '%s\n' '[relays]' 'proxy.example.com ansible_connection=local ansible_become=false' >inventory
export HOME=/root ANSIBLE_NOCOLOR=1
play() {
    ansible-playbook --inventory inventory -e hookgate_repository=http://127.0.0.1:8000/hookgate "$@" hookgate.yml
}
# changes LEAST MOST COMMAND…: so many steps changed something, and none failed
changes() {
    least=$1 most=$2
    shift 2
    "$@" >/run/recap 2>&1 || { cat /run/recap && return 1; }
    cat /run/recap
    changed=$(sed -n 's/.* changed=\([0-9]*\) .* failed=0 .*/\1/p' /run/recap)
    [ -n "$changed" ] && [ "$changed" -ge "$least" ] && [ "$changed" -le "$most" ]
}
check linter_has_nothing_to_say ansible-lint --offline --strict hookgate.yml roles/hookgate
cp -r roles/hookgate roles/wrong
sed -i 's/ansible.builtin.apt:/apt:/' roles/wrong/tasks/main.yml
check and_would_say_if_it_had refused 'fqcn' ansible-lint --offline --strict roles/wrong
check syntax_is_right play --syntax-check
check a_name_is_needed refused 'hookgate_domains' play -e '{"hookgate_domains": []}'
check sets_up changes 5 10 play
check is_installed is_version "$second"
check runs retry_until 20 active
check unit_is_enabled systemctl is-enabled hookgate
check configuration_is_right hookgate check
check no_upstream_is_404 answers / 404
check unknown_host_is_403 answers /other.example.com/x 403
check allowed_host_is_502_without_a_network answers /chatwoot.example.com/x 502
parent=$(main)
check changes_nothing_again changes 0 0 play
check adds_an_upstream changes 2 2 play -e '{"hookgate_upstreams": {"second.example.com": {"address": "127.0.0.1:9"}}}'
check which_is_served retry_until 20 answers /second.example.com/x 502
check and_the_other_no_more answers /chatwoot.example.com/x 403
check without_a_restart equal "$(main)" "$parent"
check refuses_what_hookgate_refuses refused 'nonsense' play -e '{"hookgate_upstreams": {"third.example.com": {"nonsense": true}}}'
check keeps_what_was_there answers /second.example.com/x 502
ran Ansible "$system" "ansible-core $(dpkg-query -W -f '${Version}' ansible-core): packaging/ansible sets it up, changes nothing again, \
reloads after a change"
