# A derivation whose builder is vcbuild itself: no shell and no other program takes part.
{
  vcbuild,
  name,
  system,
  arguments,
  environment ? { },
}:
derivation (
  {
    inherit name system;
    # A package or a file, told apart without building it.
    builder = if vcbuild ? outPath then "${vcbuild}/bin/vcbuild" else "${vcbuild}";
    args = arguments;
    # In the build's own folder, which goes with it.
    VCBUILD_STORE = "store";
  }
  // environment
)
