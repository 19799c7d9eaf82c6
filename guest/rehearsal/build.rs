//! Linked to a fixed address: emulated code is translated anew for each address it is run at, and the
//! program is run several times.

fn main() {
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rustc-link-arg-bins=-static");
}
