//go:build tools

// Package tools pins the command of Helm that tests install the rendered chart with.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
