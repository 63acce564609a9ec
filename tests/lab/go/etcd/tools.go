//go:build tools

// Package tools pins the etcd server that a lab's API server keeps its objects in.
package tools

import _ "go.etcd.io/etcd/server/v3"
