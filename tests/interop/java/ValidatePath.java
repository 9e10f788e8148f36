import java.io.InputStream;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.CRL;
import java.security.cert.CertPath;
import java.security.cert.CertPathBuilder;
import java.security.cert.CertPathBuilderException;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertPathValidatorException.BasicReason;
import java.security.cert.CertStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.CertificateRevokedException;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.LDAPCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.PKIXRevocationChecker.Option;
import java.security.cert.TrustAnchor;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * Validates a path under a CA as RFC 5280, section 6, with what the JDK brings, and prints one line: "valid",
 * "REVOKED reason date", or another BasicReason with its message. A path is a file with one certificate or more, each
 * of them signed by the next.
 *
 * <pre>
 * java ValidatePath ca.pem path.pem crl   list.pem...   lists from files
 * java ValidatePath ca.pem path.pem ldap  host port     lists that Java finds in a directory by itself
 * java ValidatePath ca.pem path.pem ocsp  uri           no list, a responder, about the first certificate
 * java ValidatePath ca.pem path.pem build others.pem    no revocation: does it find a path of the first through others?
 * java ValidatePath ca.pem path.pem build others.pem host port list.pem...   and through those of a directory, with lists
 * </pre>
 *
 * With -Dpolicy=OID that policy is demanded.
 */
final class ValidatePath {
    public static void main(String[] args) throws Exception {
        X509Certificate ca = certificates(args[0]).get(0);
        List<X509Certificate> certificates = certificates(args[1]);
        if (args[2].equals("build")) {
            System.out.println(found(ca, certificates.get(0), args));
            return;
        }
        CertPath path = x509().generateCertPath(certificates);
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(ca, null)));
        // Real certificates have a critical policy with a CPS qualifier; a Java application must say it can take that.
        parameters.setPolicyQualifiersRejected(false);
        demandPolicy(parameters);
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
                lists.addAll(x509().generateCRLs(in));
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
        checker.setOptions(EnumSet.of(Option.NO_FALLBACK, Option.ONLY_END_ENTITY));
        return checker;
    }

    /** Whether Java finds a path by itself, through certificates that it has from elsewhere. */
    private static String found(X509Certificate ca, X509Certificate certificate, String[] args) throws Exception {
        X509CertSelector target = new X509CertSelector();
        target.setCertificate(certificate);
        PKIXBuilderParameters parameters = new PKIXBuilderParameters(Set.of(new TrustAnchor(ca, null)), target);
        parameters.setPolicyQualifiersRejected(false);
        demandPolicy(parameters);
        parameters.setRevocationEnabled(args.length > 4);
        if (args.length > 4) {
            parameters.addCertStore(directory(args[4], Integer.parseInt(args[5])));
            parameters.addCertStore(files(List.of(args).subList(6, args.length)));
        }
        List<X509Certificate> known = certificates(args[3]);
        known.add(certificate);
        parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(known)));
        try {
            CertPathBuilder.getInstance("PKIX").build(parameters);
            return "valid";
        } catch (CertPathBuilderException e) {
            return "no path";
        }
    }

    private static void demandPolicy(PKIXParameters parameters) {
        String policy = System.getProperty("policy");
        if (policy != null) {
            parameters.setInitialPolicies(Set.of(policy));
            parameters.setExplicitPolicyRequired(true);
        }
    }

    private static List<X509Certificate> certificates(String file) throws Exception {
        List<X509Certificate> found = new ArrayList<>();
        try (InputStream in = Files.newInputStream(Path.of(file))) {
            for (Certificate certificate : x509().generateCertificates(in)) {
                found.add((X509Certificate) certificate);
            }
        }
        return found;
    }

    private static CertificateFactory x509() throws Exception {
        return CertificateFactory.getInstance("X.509");
    }
}
