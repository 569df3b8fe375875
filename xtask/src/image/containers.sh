# What the image is, and what compose makes of it.
engines="podman $(podman --version | awk '{print $3}'), $(crun --version | head -n 1 | sed 's/ version / /'), Linux $(uname -r | cut -d. -f1,2)"
whole() { skopeo inspect "$oci" >inspected && grep -q '"Os": "linux"' inspected; }
check layout_is_one_that_engines_read whole

one_of_each() {
    python3 - "$packaging" <<'EOF'
import sys, yaml
root = sys.argv[1]
compose = yaml.safe_load(open(f"{root}/compose.yaml"))["services"]["hookgate"]
_, daemon_set = yaml.safe_load_all(open(f"{root}/kubernetes/daemonset.yaml"))
pod = daemon_set["spec"]["template"]["spec"]
container = pod["containers"][0]
security = container["securityContext"]
unit = open(f"{root}/debian/hookgate.service").read()
bounds = next(line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet="))
capabilities = sorted(name.removeprefix("CAP_") for name in bounds.split("=")[1].split())
assert sorted(compose["cap_add"]) == capabilities, (compose["cap_add"], capabilities)
assert sorted(security["capabilities"]["add"]) == capabilities, security
assert compose["cap_drop"] == security["capabilities"]["drop"] == ["ALL"]
assert compose["network_mode"] == "host" and pod["hostNetwork"] is True
assert compose["read_only"] is True and security["readOnlyRootFilesystem"] is True
paths = {mount["mountPath"] for mount in container["volumeMounts"]}
assert paths == {"/etc/hookgate", "/var/lib/hookgate", "/sys/fs/bpf", "/run/hookgate"}, paths
assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
assert daemon_set["spec"]["selector"]["matchLabels"].items() <= daemon_set["spec"]["template"]["metadata"]["labels"].items()
EOF
}
tidy() {
    yamllint --strict -d '{extends: default, rules: {line-length: {max: 130}}}' "$packaging/compose.yaml" \
        "$packaging/kubernetes/daemonset.yaml"
}
check compose_and_daemonset_have_what_the_unit_has one_of_each
check compose_and_daemonset_are_tidy_yaml tidy

# Without a configuration of one's own.
default() { ! engine run --rm $limits --network host "$oci" >said 2>&1 && grep -F 'acme.domains' said; }
check without_a_domain_it_says_so default

# The stopwatch: three commands, with the image's file at hand.
cp "$packaging/compose.yaml" .
cat >machine.yaml <<EOF
services:
  hookgate:
    ulimits: {nofile: $files}
    security_opt: ["seccomp=$dir/seccomp.json"]
EOF
mkdir bin
cat >bin/podman <<EOF
#!/bin/sh
exec $(command -v podman) --root $dir/graph --runroot /run/podman --tmpdir /run/podman-tmp --storage-driver vfs --runtime crun \
    --cgroup-manager cgroupfs --events-backend none --network-backend netavark "\$@"
EOF
chmod +x bin/podman
compose() {
    HOOKGATE_IMAGE="$oci" python3 "$compose/podman_compose.py" --podman-path "$dir/bin/podman" -p edge -f compose.yaml \
        -f machine.yaml --podman-run-args="--cgroups=disabled --ulimit nproc=4096:4096" "$@"
}
begun=$(date +%s)
check compose_up compose up --detach
check first_webhook within 30 comes_from 157.240.0.7
echo "three commands: $(($(date +%s) - begun)) s from the last one to the first webhook"
check health engine healthcheck run hookgate
check guard_is_on_the_machines_interface within 10 attached
handshakes() { [ "$(counted handshakes)" -gt 0 ] && [ "$(counted delivered)" -gt 0 ]; }
check handshakes_and_deliveries_are_counted within 10 handshakes
worker() { grep -qs '^Uid:.65534' /proc/[0-9]*/status; }
check worker_is_user_65534 worker
confined() { inside doctor | tee said | grep 'ok    where it runs: in a container' && ! grep "can't be seen from here" said; }
check doctor_names_the_container confined
silent() { ! says 'not attached' && ! says 'on no volume' && ! says 'bridge network' && ! says "stays root's"; }
check nothing_is_missing silent
check reload inside reload
check ends_in_order engine stop --time 20 hookgate
check leaves_nothing_but_pins_and_state sh -c 'ls /sys/fs/bpf/hookgate'
end >/dev/null 2>&1
rm -rf /sys/fs/bpf/hookgate
