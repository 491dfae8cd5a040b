"""Documents of others become drafts of scenarios: an OpenAPI description, a HAR log. Pure but for reading the file.

Every draft passes the scenario contract. No secret that was seen stands in it: ``${secret.NAME}`` stands there instead.
"""
