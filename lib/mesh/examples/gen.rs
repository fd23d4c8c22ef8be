use synesis_mesh::identity::*;
fn main() {
    let d: TrustDomain = "example.org".parse().unwrap();
    let s = Ca::generate(CaKind::Server, &d).unwrap();
    let c = Ca::generate(CaKind::Device, &d).unwrap();
    let k = DeviceKey::generate().unwrap();
    let id = "6f1c1c0e-7d0e-4a52-9d57-4a3f0e1d2c3b".parse().unwrap();
    let i = c.sign_device_csr(&k.csr_der().unwrap(), id).unwrap();
    let out = std::env::args().nth(1).unwrap();
    std::fs::write(format!("{out}/device.key"), k.to_pem().unwrap().as_bytes()).unwrap();
    std::fs::write(format!("{out}/gateway.pem"), s.issue_server(&[]).unwrap().chain_pem).unwrap();
    std::fs::write(format!("{out}/leaf.der"), &i.chain[0]).unwrap();
    std::fs::write(format!("{out}/ca.der"), &i.chain[1]).unwrap();
}
