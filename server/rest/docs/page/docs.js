"use strict";

SwaggerUIBundle({
  url: "/schema/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // The page would otherwise show the description to a validator on another host.
  validatorUrl: null,
  requestInterceptor: (request) => {
    request.headers["X-Requested-With"] = "SwaggerUI";
    return request;
  },
});
