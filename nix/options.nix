# What `vcbuild fetch` and `vcbuild images` must agree on, as arguments of the command line.
{
  src,
  lock,
  project,
  subdir,
  base,
  go,
  platforms,
}:
let
  option = flag: value: if value == null then [ ] else [ flag "${value}" ];
in
[ "--source-dir" "${src}" "--lock" "${lock}" ]
++ option "--project" project
++ option "--source-subdir" subdir
++ option "--base" base
++ option "--go" go
++ option "--platform" (if platforms == [ ] then null else builtins.concatStringsSep "," platforms)
