#!/usr/bin/python
"""Pushes images from a store to the workers of a cluster, by vcdist."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vc_tools import option, run

DOCUMENTATION = r"""
module: vcdist_push
short_description: Push container images to the workers of a cluster
description: Runs C(vcdist push), in check mode C(vcdist plan). C(changed) is true if a node lacks a part of an image.
options:
  program: {description: The program., type: path, default: vcdist}
  kubeconfig: {description: The kubeconfig., type: path}
  store: {description: The store., type: path}
  arguments: {description: "Further options, such as those of SSH.", type: list, elements: str}
attributes:
  check_mode: {support: full}
"""


def main():
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "default": "vcdist"},
            "kubeconfig": {"type": "path"},
            "store": {"type": "path"},
            "arguments": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    options = option("--kubeconfig", module.params["kubeconfig"]) + option("--store", module.params["store"])
    if module.check_mode:
        nodes = run(module, ["plan"] + options)["nodes"]
        changed = any(image["state"] != "up-to-date" for node in nodes for image in node["images"])
    else:
        nodes = run(module, ["push"] + options)["nodes"]
        changed = any(node["result"] == "pushed" for node in nodes)
    module.exit_json(changed=changed, nodes=nodes)


if __name__ == "__main__":
    main()
