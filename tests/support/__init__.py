"""What tests share: browsers, containers, documents, servers that are not ours."""
