/* A client certificate for wrk, which has no option for one: preloaded, this gives it to whatever context wrk makes.
 *
 *   cc -shared -fPIC -o wrk_certificate.so wrk_certificate.c
 *   LD_PRELOAD=./wrk_certificate.so CERTIFICATE=client.pem KEY=client.key.pem wrk https://…
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

SSL_CTX *SSL_CTX_new(const SSL_METHOD *method) {
    SSL_CTX *(*original)(const SSL_METHOD *) = (SSL_CTX * (*)(const SSL_METHOD *)) dlsym(RTLD_NEXT, "SSL_CTX_new");
    SSL_CTX *context = original(method);
    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, getenv("CERTIFICATE")) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, getenv("KEY"), SSL_FILETYPE_PEM) != 1) {
        fputs("wrk_certificate: CERTIFICATE and KEY must name PEM files\n", stderr);
        exit(2);
    }
    return context;
}
