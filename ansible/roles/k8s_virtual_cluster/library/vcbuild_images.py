#!/usr/bin/python
"""Builds the images of VirtualCluster into a store, by vcbuild."""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.vc_tools import option, run

DOCUMENTATION = r"""
module: vcbuild_images
short_description: Build container images into a store
description: Runs C(vcbuild images). C(changed) is true if an action ran or its outputs came from a cache.
options:
  program: {description: The program., type: path, default: vcbuild}
  source_dir: {description: A folder with the source; overrides the repository., type: path}
  source_repo: {description: The git repository., type: str}
  source_version: {description: "Its branch, tag or commit.", type: str}
  components: {description: The components., type: list, elements: str}
  timeout: {description: End the build after so many seconds., type: int}
  store: {description: The store., type: path}
  arguments: {description: Further options., type: list, elements: str}
attributes:
  check_mode: {support: none, description: Whether a build is needed is known only by building.}
"""


def main():
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "default": "vcbuild"},
            "source_dir": {"type": "path"},
            "source_repo": {"type": "str"},
            "source_version": {"type": "str"},
            "components": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int"},
            "store": {"type": "path"},
            "arguments": {"type": "list", "elements": "str", "default": []},
        },
        # In check mode, Ansible skips the module.
        supports_check_mode=False,
    )
    given = module.params
    if given["source_dir"]:
        source = ["--source-dir", given["source_dir"]]
    else:
        source = option("--source-repo", given["source_repo"]) + option("--source-version", given["source_version"])
    arguments = ["images"] + source + option("--components", ",".join(given["components"]))
    document = run(module, arguments + option("--store", given["store"]), timeout=given["timeout"])
    actions = document["actions"]
    module.exit_json(changed=actions["run"] + actions["substituted"] > 0, images=document["images"], actions=actions)


if __name__ == "__main__":
    main()
