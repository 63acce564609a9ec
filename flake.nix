{
  description = "Container images, the same bit for bit wherever they are built, and what brings them to a cluster's nodes";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEach = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      systemOf = pkgs: pkgs.stdenv.hostPlatform.system;

      # The stand-in of VirtualCluster; a Go toolchain is all that its images are made of beside their source.
      fixture = {
        src = ./fixtures/virtualcluster;
        lock = ./nix/fixture.lock;
        base = "scratch";
        go = "1.26.8";
      };
      fixtureInputs = {
        x86_64-linux = "sha256-M2BSB3pY2+6Mks7FuoF2x8FLurZTnZxhl18X5+v+9N4=";
        aarch64-linux = "sha256-LZdkjPwgCr9YNofxG5GQBwIFsLvFbWlhMd2b0Q2xOg8=";
      };
    in
    {
      # For other flakes: the images of a source, from the inputs that its vcbuild.lock pins. `pkgs` is a nixpkgs, `inputsHash`
      # the hash of those inputs (leave it empty once, and Nix says what it is), and the rest is what nix/images.nix and
      # nix/inputs.nix take.
      lib.buildImages =
        {
          pkgs,
          inputsHash,
          name ? "images",
          components ? [ ],
          arguments ? [ ],
          goProxy ? null,
          debianMirror ? null,
          ...
        }@asked:
        let
          shared = removeAttrs asked [
            "pkgs"
            "inputsHash"
            "components"
            "arguments"
            "goProxy"
            "debianMirror"
          ];
          common = shared // {
            inherit (self.packages.${systemOf pkgs}) vcbuild;
            system = systemOf pkgs;
          };
          inputs = import ./nix/inputs.nix (
            common
            // {
              inherit goProxy debianMirror;
              name = "${name}-inputs";
              hash = inputsHash;
              tools = [
                pkgs.go
                pkgs.gitMinimal
              ];
              certificates = "${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt";
            }
          );
        in
        import ./nix/images.nix (common // { inherit inputs components arguments name; });

      overlays.default = final: _: {
        inherit (self.packages.${systemOf final}) vcbuild vcdist;
      };

      packages = forEach (
        pkgs:
        let
          build = import ./nix/package.nix { inherit pkgs; };
        in
        rec {
          default = vcbuild;
          vcbuild = build "vcbuild";
          vcdist = build "vcdist";
          images = self.lib.buildImages (
            fixture
            // {
              inherit pkgs;
              inputsHash = fixtureInputs.${systemOf pkgs};
            }
          );
          bundle = import ./nix/bundle.nix {
            inherit
              pkgs
              vcbuild
              vcdist
              images
              ;
          };
        }
      );

      apps = forEach (
        pkgs:
        let
          app = name: {
            type = "app";
            program = "${self.packages.${systemOf pkgs}.${name}}/bin/${name}";
          };
        in
        rec {
          default = vcbuild;
          vcbuild = app "vcbuild";
          vcdist = app "vcdist";
        }
      );

      devShells = forEach (pkgs: {
        default = pkgs.mkShell {
          packages = [
            pkgs.cargo
            pkgs.clippy
            pkgs.go
            pkgs.protobuf
            pkgs.rustc
            pkgs.rustfmt
          ];
        };
      });

      checks = forEach (pkgs: {
        inherit (self.packages.${systemOf pkgs})
          vcbuild
          vcdist
          images
          bundle
          ;
      });

      formatter = forEach (pkgs: pkgs.nixfmt-rfc-style);
    };
}
