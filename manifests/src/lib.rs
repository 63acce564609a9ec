//! VirtualCluster's API types and workloads as typed Kubernetes objects.
