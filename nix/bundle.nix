# One tar for the way across an air gap: the images' archives, both binaries, the manifests that run these very images, and
# the checksums of all of it. Equal contents make equal bundles.
{
  pkgs,
  vcbuild,
  vcdist,
  # The images of VirtualCluster's three components, as ./images.nix makes them.
  images,
}:
pkgs.runCommand "virtualcluster-bundle.tar" { } ''
  mkdir -p bundle/bin bundle/images bundle/manifests
  cp ${vcbuild}/bin/vcbuild ${vcdist}/bin/vcdist bundle/bin/
  cp ${images}/*.tar bundle/images/

  # Each archive's index names its image and has its digest.
  given=""
  for component in manager syncer vn-agent; do
    index=$(tar --extract --to-stdout --file bundle/images/vc_$component-*.tar index.json)
    name=''${index#*'"io.containerd.image.name":"'}
    name=''${name%%'"'*}
    digest=''${index#*'"digest":"'}
    digest=''${digest%%'"'*}
    given="$given --image $component=''${name%:*}@$digest"
  done
  bundle/bin/vcdist deploy --no-apply --output-dir bundle/manifests $given

  chmod -R u=rwX,go=rX bundle
  (cd bundle && find . -type f -printf '%P\n' | LC_ALL=C sort | xargs sha256sum > ../SHA256SUMS)
  mv SHA256SUMS bundle/
  tar --create --file $out --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime=@1 --directory bundle .
''
