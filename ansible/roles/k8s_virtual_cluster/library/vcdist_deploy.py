#!/usr/bin/python
"""Deploys VirtualCluster to a cluster, by vcdist."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vc_tools import option, run

DOCUMENTATION = r"""
module: vcdist_deploy
short_description: Deploy VirtualCluster and wait until it runs
description: Runs C(vcdist deploy), in check mode with C(--dry-run). C(changed) is true if an object changes; the diff has its fields.
options:
  program: {description: The program., type: path, default: vcdist}
  kubeconfig: {description: The kubeconfig., type: path}
  namespace: {description: The namespace., type: str, default: vc-manager}
  store: {description: The store., type: path}
  arguments: {description: Further options., type: list, elements: str}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""


def title(entry):
    """`deployment/vc-manager`."""
    return "%s/%s" % (entry["kind"].lower(), entry["name"])


def difference(changes):
    """What Ansible's diff shows: the fields of each changed object before and after."""
    before, after = [], []
    for entry in changes:
        if entry["change"] == "created":
            after.append(title(entry))
        elif entry["change"] == "removed":
            before.append(title(entry))
        for field in entry.get("fields") or []:
            for lines, value in ((before, field["from"]), (after, field["to"])):
                if value is not None:
                    lines.append("%s %s: %s" % (title(entry), field["field"], value))
    return {"before": "".join(line + "\n" for line in before), "after": "".join(line + "\n" for line in after)}


def main():
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "default": "vcdist"},
            "kubeconfig": {"type": "path"},
            "namespace": {"type": "str", "default": "vc-manager"},
            "store": {"type": "path"},
            "arguments": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    arguments = ["deploy", "--namespace", given["namespace"]] + (["--dry-run"] if module.check_mode else [])
    arguments += option("--kubeconfig", given["kubeconfig"]) + option("--store", given["store"])
    document = run(module, arguments)
    changes = [entry for entry in document["objects"] if entry["change"] != "unchanged"]
    module.exit_json(
        changed=bool(changes),
        changes=[{"object": title(entry), "change": entry["change"]} for entry in changes],
        revision=document["revision"],
        diff=difference(changes),
    )


if __name__ == "__main__":
    main()
