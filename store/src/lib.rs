//! The content-addressed store that vcbuild and vcdist share: an OCI image layout with actions, roots and archives.
