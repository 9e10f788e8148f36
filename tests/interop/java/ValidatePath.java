import java.io.InputStream;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.CRL;
import java.security.cert.CertPath;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertPathValidatorException.BasicReason;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CertificateRevokedException;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.LDAPCertStoreParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * Validates a certificate under a CA as RFC 5280, section 6, with what the JDK brings, and prints one line:
 * "valid", "REVOKED reason date", or another BasicReason with its message.
 *
 * <pre>
 * java ValidatePath ca.pem certificate.pem crl  list.pem...   lists from files
 * java ValidatePath ca.pem certificate.pem ldap host port     lists that Java finds in a directory by itself
 * java ValidatePath ca.pem certificate.pem ocsp uri           no list, a responder
 * </pre>
 */
final class ValidatePath {
    public static void main(String[] args) throws Exception {
        X509Certificate ca = certificate(args[0]);
        CertPath path = x509().generateCertPath(List.of(certificate(args[1])));
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(ca, null)));
        // Real certificates have a critical policy with a CPS qualifier; a Java application must say it can take that.
        parameters.setPolicyQualifiersRejected(false);
        switch (args[2]) {
            case "crl" -> parameters.addCertStore(files(List.of(args).subList(3, args.length)));
            case "ldap" -> parameters.addCertStore(directory(args[3], Integer.parseInt(args[4])));
            case "ocsp" -> parameters.addCertPathChecker(responder(validator, URI.create(args[3])));
            default -> throw new IllegalArgumentException(args[2]);
        }
        System.out.println(verdict(validator, path, parameters));
    }

    private static String verdict(CertPathValidator validator, CertPath path, PKIXParameters parameters)
            throws Exception {
        try {
            validator.validate(path, parameters);
            return "valid";
        } catch (CertPathValidatorException e) {
            if (e.getReason() == BasicReason.REVOKED && e.getCause() instanceof CertificateRevokedException revoked) {
                return "REVOKED " + revoked.getRevocationReason() + " " + revoked.getRevocationDate().toInstant();
            }
            return e.getReason() + " " + e.getMessage();
        }
    }

    private static CertStore files(List<String> names) throws Exception {
        List<CRL> lists = new ArrayList<>();
        for (String name : names) {
            try (InputStream in = Files.newInputStream(Path.of(name))) {
                lists.add(x509().generateCRL(in));
            }
        }
        return CertStore.getInstance("Collection", new CollectionCertStoreParameters(lists));
    }

    private static CertStore directory(String host, int port) throws Exception {
        return CertStore.getInstance("LDAP", new LDAPCertStoreParameters(host, port));
    }

    private static PKIXRevocationChecker responder(CertPathValidator validator, URI uri) throws Exception {
        PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        checker.setOcspResponder(uri);
        checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.NO_FALLBACK));
        return checker;
    }

    private static X509Certificate certificate(String file) throws Exception {
        try (InputStream in = Files.newInputStream(Path.of(file))) {
            return (X509Certificate) x509().generateCertificate(in);
        }
    }

    private static CertificateFactory x509() throws Exception {
        return CertificateFactory.getInstance("X.509");
    }
}
