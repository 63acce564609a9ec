//! A real Kubernetes cluster in network namespaces, for tests and the demo.
